#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""LoRA adapters from trainers to servers, byte by byte, against formulas of where PEFT and vLLM hold them.

usage: run_adapters.py --library LIBRESHARD.SO

Sources are FSDP2, which cuts the rows of A and of B, and Megatron, whose fused projections have one A and a B with the
rows of the projection; destinations are vLLM, which cuts B where a projection's outputs are cut and A where its inputs
are, and FSDP2 of another size. That Megatron cannot be a destination, several tensors being at one place, is tried, too.
"""
import argparse
import sys

import numpy as np

import capi
import memory
import model

RANK = 3
CONFIG = {**model.config_json("llama"), "num_hidden_layers": 2}
HEADS, KV_HEADS, EACH = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"], model.head_dim(CONFIG)
HIDDEN, WIDTH = CONFIG["hidden_size"], CONFIG["intermediate_size"]
SHAPES = {"self_attn.q_proj": (HEADS * EACH, HIDDEN), "self_attn.k_proj": (KV_HEADS * EACH, HIDDEN),
          "self_attn.v_proj": (KV_HEADS * EACH, HIDDEN), "self_attn.o_proj": (HIDDEN, HEADS * EACH),
          "mlp.gate_proj": (WIDTH, HIDDEN), "mlp.up_proj": (WIDTH, HIDDEN), "mlp.down_proj": (HIDDEN, WIDTH)}
ROWS_ARE_CUT = {name: not name.endswith(("o_proj", "down_proj")) for name in SHAPES}
SHARED = {"self_attn.k_proj": "self_attn.q_proj", "self_attn.v_proj": "self_attn.q_proj", "mlp.up_proj": "mlp.gate_proj"}


def adapters(shares_a):
    """{(layer, projection): (A, B)}; no two elements are equal, but for the A that Megatron's projections share."""
    found, first = {}, 1
    for layer in range(CONFIG["num_hidden_layers"]):
        for name, (rows, columns) in SHAPES.items():
            a = np.arange(first, first + RANK * columns, dtype=np.uint32).reshape(RANK, columns)
            b = np.arange(first + a.size, first + a.size + rows * RANK, dtype=np.uint32).reshape(rows, RANK)
            first += a.size + b.size
            found[layer, name] = (found[layer, SHARED[name]][0] if shares_a and name in SHARED else a, b)
    return found


def fsdp(tensors, shard):
    return [{f"model.layers.{layer}.{name}.lora_{letter}.weight": memory.chunk(array, 0, shard, rank)
             for (layer, name), pair in tensors.items() for letter, array in zip("AB", pair)} for rank in range(shard)]


def vllm(tensors, tp):
    slices = {"q_proj": ("qkv_proj", 0), "k_proj": ("qkv_proj", 1), "v_proj": ("qkv_proj", 2),
              "gate_proj": ("gate_up_proj", 0), "up_proj": ("gate_up_proj", 1)}
    ranks = []
    for rank in range(tp):
        held = {}
        for (layer, name), (a, b) in tensors.items():
            module, _, last = name.rpartition(".")
            target, index = slices.get(last, (last, 0))
            kv = last in ("k_proj", "v_proj") and tp > KV_HEADS
            size, place = (KV_HEADS, rank // (tp // KV_HEADS)) if kv else (tp, rank)
            prefix = f"model.layers.{layer}.{module}.{target}.lora_"
            held[f"{prefix}a_stacked.{index}"] = a if ROWS_ARE_CUT[name] else memory.even(a, 1, tp, rank)
            held[f"{prefix}b_stacked.{index}"] = memory.even(b, 0, size, place) if ROWS_ARE_CUT[name] else b
        ranks.append(held)
    return ranks


def megatron(tensors, tp):
    ranks = []
    for rank in range(tp):
        held = {}
        for layer in range(CONFIG["num_hidden_layers"]):
            prefix, of = f"decoder.layers.{layer}.", lambda name, at=layer: tensors[at, name]
            q, k, v = (of(f"self_attn.{name}_proj")[1].reshape(KV_HEADS, -1, RANK) for name in "qkv")
            held[prefix + "self_attention.linear_qkv.lora_A.weight"] = of("self_attn.q_proj")[0]
            held[prefix + "self_attention.linear_qkv.lora_B.weight"] = memory.even(
                np.concatenate([q, k, v], axis=1).reshape(-1, RANK), 0, tp, rank)
            held[prefix + "mlp.linear_fc1.lora_A.weight"] = of("mlp.gate_proj")[0]
            held[prefix + "mlp.linear_fc1.lora_B.weight"] = np.concatenate(
                [memory.even(of(f"mlp.{name}_proj")[1], 0, tp, rank) for name in ("gate", "up")])
            for name, target in (("self_attn.o_proj", "self_attention.linear_proj"), ("mlp.down_proj", "mlp.linear_fc2")):
                held[f"{prefix}{target}.lora_A.weight"] = memory.even(of(name)[0], 1, tp, rank)
                held[f"{prefix}{target}.lora_B.weight"] = of(name)[1]
        ranks.append(held)
    return ranks


SIDES = {"fsdp:shard": fsdp, "vllm:tp": vllm, "megatron:tp": megatron}


def run_case(library, source, destination):
    tensors = adapters("megatron" in source + destination)
    held = []
    for text in (source, destination):
        kind, _, size = text.partition("=")
        held.append(SIDES[kind](tensors, int(size)))
    num_ranks = len(held[0]) + len(held[1])
    src = library.layout(CONFIG, f"{source},lora={RANK}", 0, num_ranks)
    dst = library.layout(CONFIG, f"{destination},lora={RANK}", len(held[0]), num_ranks)
    problems, memories, wanted = [], [], []
    for rank in range(num_ranks):
        is_source = rank < len(held[0])
        mine = held[0][rank] if is_source else held[1][rank - len(held[0])]
        buffers = {name: number for number, name, size in library.buffers(src if is_source else dst, rank) if size > 0}
        if buffers.keys() != {name for name, array in mine.items() if array.size}:
            problems.append(f"rank {rank}: other buffers: {sorted(buffers.keys() ^ mine.keys())[:4]}")
            continue
        arrays = {buffers[name]: np.ascontiguousarray(mine[name]) for name in buffers}
        empty = {number: np.full(array.size, 0xA5A5A5A5, np.uint32) for number, array in arrays.items()}
        memories.append((arrays, {}) if is_source else ({}, empty))
        wanted += [] if is_source else [(rank, name, empty[number], mine[name]) for name, number in buffers.items()]
    if not problems:
        library.run(src, dst, memories)
        problems += [f"rank {rank}: {name} is wrong" for rank, name, got, want in wanted if not (got == want.ravel()).all()]
    for layout in (src, dst):
        library.dll.reshard_layout_destroy(layout)
    return problems


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", required=True)
    library = capi.Library(parser.parse_args().library)
    failed = 0
    cases = [(source, destination) for source in ("fsdp:shard=2", "fsdp:shard=5", "megatron:tp=1", "megatron:tp=4")
             for destination in ("vllm:tp=1", "vllm:tp=2", "vllm:tp=4", "fsdp:shard=3")]
    for source, destination in cases:
        problems = run_case(library, source, destination)
        failed += bool(problems)
        print("".join(f"{source} -> {destination}: {problem}\n" for problem in problems[:5]), end="")
    try:
        run_case(library, "fsdp:shard=2", "megatron:tp=2")
        failed += 1
        print("several tensors at one place of a destination are not refused")
    except capi.Failure as failure:
        if "lora_A" not in str(failure):
            failed += 1
            print(f"refused without a name: {failure}")
    print(f"{len(cases)} transfers of adapters, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
