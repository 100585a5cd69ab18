#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Layouts recorded from vLLM's own weight loaders against the library's `vllm:` layouts, element by element.

usage: vllm_recording_test.py [FAMILY...]     default: a few families and ranks; RESHARD_ALL=1: all of them

For each worker vLLM's model is built as in record_vllm.py, in this process; what reshard.vllm records of it must have
the parameters that the library's layout has as buffers, of the same types, with the same element of the same checkpoint
tensor at every place. The trainer's tensors are those of the layout `checkpoint`.
"""
import json
import logging
import os
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/families"), str(ROOT / "src/python")]
import record_vllm  # noqa: E402  first: it says how vLLM is to be loaded
import numpy as np  # noqa: E402
import torch  # noqa: E402
from vllm.config import set_current_vllm_config  # noqa: E402

import compare_files  # noqa: E402
import remote_code  # noqa: E402
import reshard  # noqa: E402
import settings  # noqa: E402
import zoo  # noqa: E402
from reshard.vllm.model import record  # noqa: E402
from reshard.vllm.recording import CheckpointTensor  # noqa: E402

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
UNTOUCHED, ZERO = -1, 0
# (family, variant, text, ranks) of every run in CI: each way to cut, to fuse, to pad, to repeat, and to permute.
SOME = [("qwen3", "small", "vllm:tp=1", [0]), ("qwen3", "small", "vllm:tp=2", [1]), ("qwen3", "tied", "vllm:tp=2", [1]),
        ("llama", "small", "vllm:tp=12", [5, 11]), ("llama", "few_kv_heads", "vllm:tp=4", [2]),
        ("qwen3_moe", "small", "vllm:tp=2,dp=2,ep=4", [0, 3]), ("qwen3_moe", "small", "vllm:tp=1,ep=4,redundant=2", [3]),
        ("deepseek_v3", "small", "vllm:tp=4,ep=4,placement=round_robin", [1]), ("gpt_oss", "small", "vllm:tp=2", [1]),
        ("llama4_text", "small", "vllm:tp=2", [1]), ("qwen3_next", "small", "vllm:tp=4", [3]),
        ("gpt2", "small", "vllm:tp=2,pp=2", [2])]


def index_of(start, shape, strides):
    places = np.array(0)
    for dim, extent in enumerate(shape):
        along = [1] * len(shape)
        along[dim] = extent
        places = places + ((start[dim] + np.arange(extent)) * strides[dim]).reshape(along)
    return places


class Numbers:
    """Each element of the checkpoint has a number, from 1 on."""

    def __init__(self, tensors):
        self.first, self.strides, number = {}, {}, 1
        for tensor in tensors:
            self.first[tensor.name] = number
            self.strides[tensor.name] = [int(np.prod(tensor.shape[dim + 1:])) for dim in range(len(tensor.shape))]
            number += int(np.prod(tensor.shape))

    def paint(self, memory, tensor, start, shape, offset, strides, is_zero):
        places = np.broadcast_to(offset + index_of([0] * len(shape), shape, strides), shape).ravel()
        values = 0 if is_zero else np.broadcast_to(
            self.first[tensor] + index_of(start, shape, self.strides[tensor]), shape).ravel()
        assert (memory[places] == UNTOUCHED).all(), f"{tensor}: blocks overlap"
        memory[places] = values


def of_layout(layout, numbers, rank):
    """{buffer: (dtype, numbers)} of the library's layout."""
    dtypes = {tensor.name: tensor.dtype for tensor in layout.tensors}
    blocks, found = {}, {}
    for block in layout.blocks(rank):
        blocks.setdefault(block.buffer, []).append(block)
    for buffer in layout.buffers(rank):
        if buffer.size_bytes == 0:
            continue
        (dtype,) = {dtypes[block.tensor] for block in blocks[buffer.name]}
        unit = reshard.dtype_size_bytes(dtype)
        memory = np.full(buffer.size_bytes // unit, UNTOUCHED)
        for block in blocks[buffer.name]:
            if block.kind != "untouched":
                numbers.paint(memory, block.tensor, block.start, block.shape, block.offset_bytes // unit,
                              [stride // unit for stride in block.strides_bytes], block.kind == "zero")
        found[buffer.name] = (dtype, memory)
    return found


def of_recording(recording, numbers):
    found = {}
    for name, parameter in recording.parameters.items():
        memory = np.full(parameter.size_bytes // parameter.dtype.itemsize, UNTOUCHED)
        for block in recording.blocks[name]:
            numbers.paint(memory, block.tensor, block.begin, block.shape, block.offset, block.strides, block.is_zero)
        found[name] = (reshard.dtype_name(parameter.dtype), memory)
    return found


def difference(ours, theirs):
    if ours is None or theirs is None:
        return "the layout has none" if ours is None else "not recorded"
    if ours[1].size != theirs[1].size:
        return f"{ours[1].size} elements, recorded {theirs[1].size}"
    others = np.flatnonzero(ours[1] != theirs[1])
    if others.size:
        return f"{others.size} of {ours[1].size} elements are others, the first at {others[0]}"
    return f"{ours[0]}, recorded {theirs[0]}" if ours[0] != theirs[0] else ""


def compare(config, model_class, text, rank):
    """({parameter: what differs}, seconds of the recording) of one worker."""
    setting = settings.parse(text)
    layout = reshard.Layout.from_text(config, text)
    tensors = [CheckpointTensor(tensor.name, tensor.shape, DTYPES[tensor.dtype])
               for tensor in reshard.Layout.from_text(config, "checkpoint").tensors]
    numbers = Numbers(tensors)
    served = {**remote_code.server_config(config), "architectures": [model_class]}
    with record_vllm.Worker(served, setting, rank, "bfloat16") as worker, set_current_vllm_config(worker.config):
        begin = time.perf_counter()
        recording = record(worker.model, tensors)
        seconds = time.perf_counter() - begin
        if RESHARD_ALL:
            assert record(worker.model, tensors, every_layer=True) == recording, "layers that look equal are not"
    ours, theirs = of_layout(layout, numbers, rank), of_recording(recording, numbers)
    found = {name: difference(ours.get(name), theirs.get(name)) for name in ours.keys() | theirs.keys()}
    return {name: what for name, what in found.items() if what}, seconds


RESHARD_ALL = os.environ.get("RESHARD_ALL") == "1"


def models(family):
    return {variant: model for variant, model in
            json.loads((compare_files.RECORDS / f"{family}.json").read_text(encoding="utf-8"))["models"].items()
            if isinstance(model["config"], dict)}


def workers(families):
    """(family, variant, text, ranks): those of CI, or all of these families."""
    if not RESHARD_ALL and not families:
        return SOME
    return [(family, variant, text, range(settings.num_ranks(settings.parse(text))))
            for family in families or zoo.ZOO for variant, model in models(family).items()
            for text in settings.texts(model["config"], variant)]


def main():
    logging.disable(logging.WARNING)
    record_vllm.use_any_kernel()
    record_vllm.look_at_models_here()
    remote_code.register()
    known, failures, count, longest = compare_files.KnownDifferences(), 0, 0, 0.0
    for family, variant, text, ranks in workers(sys.argv[1:]):
        model = models(family)[variant]
        for rank in ranks:
            title = f"{family} {variant} {text} rank {rank}"
            try:
                found, seconds = compare(model["config"], model["class"], text, rank)
            except (RuntimeError, AssertionError, reshard.Error) as error:
                found, seconds = {"": f"{type(error).__name__}: {error}"}, 0
            count, longest = count + 1, max(longest, seconds)
            lines = [f"{title} {name}: {what}" for name, what in found.items()
                     if not known.have(f"{family} {variant} {text} {name}", what)]
            failures += bool(lines)
            print("".join(line + "\n" for line in lines[:8]), end="", flush=True)
    if not RESHARD_ALL and not sys.argv[1:]:
        print("RESHARD_ALL=1 compares all families, settings and ranks (minutes)")
    print(f"workers: {count}, {failures} differ; the longest recording took {1e3 * longest:.0f} ms")
    sys.exit(failures > 0 or count == 0)


if __name__ == "__main__":
    main()
