#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Framework memory in, framework memory out: layouts made from text, against formulas of what the frameworks hold.

usage: run_frameworks.py --library LIBRESHARD.SO [--only TEXT] [--seed N] [--memory host|cuda] [--driver D] [--most N]

The source's buffers are filled with what the source framework holds (memory.py), reshard moves them between threads, and
every byte of the destination's buffers is compared with what the destination framework holds. Each family goes from each
of its layouts to the next ones of a ring, and so through every layout as source and as destination; some pairs on the
same ranks, some on ranks of their own.
"""
import argparse
import json
import pathlib
import random
import sys

import numpy as np

import capi
import memory
import model

# What a layout's text says, as settings of the formulas. Of every family: all keys, cuts that do not divide, more ranks
# than k and v heads, and every place that experts can have.
DENSE = ["fsdp:shard=7,units=flat", "fsdp:shard=3,replicate=2,units=aligned", "fsdp:shard=3", "fsdp:shard=2,replicate=2", "megatron:tp=2,dp=2", "megatron:tp=4,pp=2", "megatron:pp=3,dp=2",
         "megatron:tp=8", "megatron:tp=2,pp=2,layers={uneven}", "vllm:tp=2", "vllm:tp=4,replicas=2", "vllm:tp=2,pp=2",
         "vllm:dp=2,tp=2", "vllm:pp=3,tp=2,layers={uneven}", "sglang:tp=4,replicas=2", "sglang:tp=2,pp=3",
         "sglang:tp=1,pp=2,layers={uneven}", "checkpoint", "checkpoint:ranks=3"]
EXPERTS = ["fsdp:shard=5", "fsdp:shard=2,replicate=2", "fsdp:shard=3,experts=each",
           "fsdp:shard=5,units=flat", "fsdp:shard=3,units=aligned,experts=each", "megatron:tp=2,dp=2,ep=4",
           "megatron:tp=2,dp=2,ep=2,etp=2,experts=local",
           "megatron:tp=4,pp=2,etp=4", "megatron:dp=8,ep=8,experts=gmm", "megatron:tp=2,dp=2,ep=2,etp=2,experts=gmm",
           "megatron:pp=2,dp=4,ep=2,layers={uneven}", "vllm:tp=4", "vllm:tp=2,dp=2", "vllm:tp=2,dp=2,ep=4",
           "vllm:ep=3,tp=1,replicas=2", "vllm:ep=4,tp=1,redundant=4", "vllm:tp=2,dp=4,ep=8,pp=2", "sglang:tp=4,ep=2",
           "sglang:tp=2,pp=2,replicas=2", "checkpoint"]
GROUPED = ["sglang:tp=4,attention_dp=2,all2all=deepep", "sglang:tp=4,attention_dp=4,ep=2,dense=whole,output=attention",
           "sglang:tp=8,attention_dp=2,ep=4,redundant=4,replicas=2"]
EPLB = pathlib.Path(__file__).parent / "eplb.json"
TEXTS = {"llama": DENSE + ["vllm:tp=1,pp=4"], "qwen3_tied": [text for text in DENSE if text != "megatron:tp=8"] + ["megatron:tp=2,pp=3"],
         "qwen3_moe": EXPERTS + [f"vllm:tp=2,ep=4,eplb={EPLB}", f"sglang:tp=4,ep=4,eplb={EPLB}"], "mixtral": EXPERTS,
         "deepseek": EXPERTS + GROUPED + ["vllm:ep=4,tp=4,placement=round_robin"], "kimi": EXPERTS + GROUPED}
FORMULAS = {"fsdp": memory.fsdp, "megatron": memory.megatron, "vllm": memory.vllm, "sglang": memory.sglang,
            "checkpoint": memory.checkpoint}
POISON = np.uint32(0xA5A5A5A5)


def settings_of(text):
    """(scheme, settings) of a layout text."""
    scheme, _, rest = text.partition(":")
    settings = {}
    for item in filter(None, rest.split(",")):
        key, value = item.split("=")
        if key == "layers":
            settings[key] = [int(part) for part in value.split("-")]
        elif key == "eplb":
            (settings["table"],) = json.loads(pathlib.Path(value).read_text(encoding="utf-8"))["physical_to_logical"]
        else:
            settings[key] = int(value) if value.isdigit() else value
    if "ep" in settings and scheme == "vllm" and "dp" not in settings:
        settings["dp"] = settings["ep"] // settings.get("tp", 1)
    if settings.get("all2all", "none") != "none" and scheme == "sglang":
        settings["ep"] = settings.get("tp", 1)
    return scheme, settings


def text_for(text, config):
    """With an uneven number of layers on each of its stages, where it asks for that."""
    pp = settings_of(text.replace("{uneven}", "1"))[1].get("pp", 1)
    layers = config["num_hidden_layers"]
    uneven = [1] * (pp - 1) + [layers - pp + 1]
    return text.replace("{uneven}", "-".join(map(str, uneven)))


class Side:
    """One side of a transfer: the library's layout beside the framework's memory."""

    def __init__(self, library, config, tensors, text, first_rank, num_ranks):
        scheme, settings = settings_of(text)
        self.layout = library.layout(config, text, first_rank, num_ranks)
        self.memory = {first_rank + i: held for i, held in enumerate(FORMULAS[scheme](config, tensors, settings))}
        self.buffers = {rank: library.buffers(self.layout, rank) for rank in range(num_ranks)}

    def problems(self):
        """Buffers that the library has and the framework has not, the other way round, and those of another size."""
        found = []
        for rank, buffers in self.buffers.items():
            sizes = {name: size for _, name, size in buffers if size > 0}
            held = {name: array.nbytes for name, array in self.memory.get(rank, {}).items() if array.size > 0}
            if sizes != held:
                differing = sorted(name for name in sizes.keys() | held.keys() if sizes.get(name) != held.get(name))
                found.append(f"rank {rank}: " + ", ".join(
                    f"{name} {sizes.get(name)} bytes, framework {held.get(name)}" for name in differing[:4]))
        return found

    def filled(self, rank):
        return {number: np.ascontiguousarray(self.memory[rank][name]) for number, name, size in self.buffers[rank]
                if size > 0}

    def poisoned(self, rank):
        return {number: np.full(size // 4, POISON, np.uint32) for number, _, size in self.buffers[rank] if size > 0}

    def wrong(self, rank, arrays):
        found = []
        for number, name, size in self.buffers[rank]:
            if size == 0:
                continue
            wanted = np.where(self.memory[rank][name] == memory.PAD, np.uint32(0), self.memory[rank][name]).ravel()
            wanted = np.where(wanted == memory.FREE, POISON, wanted)  # left as it was
            num_wrong = int(np.count_nonzero(arrays[number] != wanted))
            if num_wrong:
                at = int(np.flatnonzero(arrays[number] != wanted)[0])
                found.append(f"rank {rank}, {name}: {num_wrong} of {wanted.size} elements wrong, the first at {at}: "
                             f"{arrays[number][at]}, not {wanted[at]}")
        return found


def run_case(library, name, source, destination, is_colocated):
    config = model.config_json(name)
    tensors = model.tensors(config)
    num_src, num_dst = library.num_ranks(source), library.num_ranks(destination)
    num_ranks = max(num_src, num_dst) if is_colocated else num_src + num_dst
    src = Side(library, config, tensors, source, 0, num_ranks)
    dst = Side(library, config, tensors, destination, 0 if is_colocated else num_src, num_ranks)
    problems = src.problems() + dst.problems()
    if not problems:
        memories = [(src.filled(rank), dst.poisoned(rank)) for rank in range(num_ranks)]
        library.run(src.layout, dst.layout, memories)
        for rank in range(num_ranks):
            problems += dst.wrong(rank, memories[rank][1])
    for side in (src, dst):
        library.dll.reshard_layout_destroy(side.layout)
    return problems


def cases(rng):
    """Every layout of a family as source and as destination twice, with partners that the seed chooses."""
    for name, texts in TEXTS.items():
        texts = [text_for(text, model.MODELS[name]) for text in texts]
        for _ in range(2):
            partners = texts[:]
            rng.shuffle(partners)
            for source, destination in zip(texts, partners):
                yield name, source, destination, rng.random() < 0.5


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", required=True)
    parser.add_argument("--only", default="", help="cases whose line contains this")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--memory", default="host", choices=["host", "cuda"], help="cuda: all ranks on the first device")
    parser.add_argument("--driver", default="auto", choices=["auto", "poll", "nccl"], help="of the bindings")
    parser.add_argument("--most", type=int, default=1 << 30, help="cases at most")
    arguments = parser.parse_args()
    library = capi.Library(arguments.library, arguments.memory == "cuda", arguments.driver)
    num_cases, failed = 0, 0
    all_cases = list(cases(random.Random(arguments.seed)))
    if arguments.most < len(all_cases):  # some of every family
        all_cases = random.Random(arguments.seed).sample(all_cases, arguments.most)
    for name, source, destination, is_colocated in all_cases:
        line = f"{name}: {source} -> {destination}{', colocated' if is_colocated else ''}"
        if arguments.only not in line:
            continue
        num_cases += 1
        try:
            problems = run_case(library, name, source, destination, is_colocated)
        except capi.Failure as failure:
            problems = [str(failure)]
        if problems:
            failed += 1
            print(line + "\n  " + "\n  ".join(problems[:5]))
    print(f"seed {arguments.seed}: {num_cases} transfers from framework memory to framework memory, {failed} failed")
    sys.exit(bool(failed) or num_cases == 0)


if __name__ == "__main__":
    main()
