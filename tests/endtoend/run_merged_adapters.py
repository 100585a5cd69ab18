#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""LoRA merged at the source shard: W + alpha / r B A arrives at the servers, and no rank ever holds all of W.

usage: run_merged_adapters.py --library LIBRESHARD.SO

How a trainer does it, in three steps, of which merge() is the second:
  1. the adapters, which are small, move from where they are trained to every rank that holds a part of W, whole;
  2. each rank adds the product's box to each block of W that lies on it, in fp32: the layout's blocks say which rows and
     columns these are, so that it is the same for cut, fused and interleaved parameters;
  3. W moves to the servers as always.

Values are small whole numbers, so that fp32 sums are exact in whatever order, and server memory is compared bit by bit
with numpy's own B A and closed formulas of where vLLM holds what.
"""
import argparse
import sys

import numpy as np

import capi
import memory
import model
import run_adapters

CONFIG, RANK, SCALE = run_adapters.CONFIG, run_adapters.RANK, np.float32(2)  # alpha is 2 r


def small_numbers(shape, seed):
    return np.random.default_rng(seed).integers(-8, 9, shape).astype(np.float32)


def weights():
    """{checkpoint name: fp32 values}, each its own up to 2^20."""
    found, first = {}, 1
    for name, tensor in model.tensors(CONFIG).items():
        found[name] = np.arange(first, first + tensor.size, dtype=np.float32).reshape(tensor.shape)
        first += tensor.size
    return found


def adapters(shares_a):
    """{(layer, projection): (A, B)}; Megatron's fused projections have one A."""
    found = {}
    for layer in range(CONFIG["num_hidden_layers"]):
        for number, (name, (rows, columns)) in enumerate(run_adapters.SHAPES.items()):
            seed = 100 * layer + 2 * number
            a, b = small_numbers((RANK, columns), seed), small_numbers((rows, RANK), seed + 1)
            found[layer, name] = (found[layer, run_adapters.SHARED[name]][0] if shares_a and name in run_adapters.SHARED
                                  else a, b)
    return found


def merged(tensors, pairs):
    """What the servers are to hold."""
    out = dict(tensors)
    for (layer, name), (a, b) in pairs.items():
        key = f"model.layers.{layer}.{name}.weight"
        out[key] = tensors[key] + SCALE * (b @ a)
    return out


def bits(tensors):
    return {name: np.ascontiguousarray(tensor).view(np.uint32) for name, tensor in tensors.items()}


def empty_buffers(library, layout, rank):
    return {number: np.full(size // 4, 0x5A5A5A5A, np.uint32) for number, _, size in library.buffers(layout, rank) if size}


def merge(library, layout, rank, buffers, pairs_of_rank):
    """Adds alpha / r B A to what the rank holds of each W. buffers: {id: uint32 array} of the layout's buffers on the rank;
    pairs_of_rank: {name of W: (A, B)}, whole. Returns how many elements were touched."""
    names = [name for name, _, _ in library.tensors(layout)]
    touched = 0
    for block in library.blocks(layout, rank):
        pair = pairs_of_rank.get(names[block.tensor])
        if block.kind != 0 or pair is None:
            continue
        (top, left), (bottom, right) = block.begin[:2], block.end[:2]
        part = np.ndarray((bottom - top, right - left), np.float32, buffers[block.buffer], block.offset_bytes,
                          tuple(block.strides_bytes[:2]))
        part += SCALE * (pair[1][top:bottom] @ pair[0][:, left:right])
        touched += part.size
    return touched


def gather_adapters(library, source, pairs, num_ranks):
    """Step 1: by rank, {name of W: (A, B)}."""
    kind, _, rest = source.partition(":")
    held = {"fsdp": run_adapters.fsdp, "megatron": run_adapters.megatron}[kind](pairs, num_ranks)
    src = library.layout(CONFIG, f"{source},lora={RANK}", 0, num_ranks)
    dst = library.layout(CONFIG, f"checkpoint:ranks={num_ranks},lora={RANK}", 0, num_ranks)
    memories, found = [], []
    for rank in range(num_ranks):
        mine = {number: np.ascontiguousarray(held[rank][name]).view(np.uint32)
                for number, name, size in library.buffers(src, rank) if size}
        memories.append((mine, empty_buffers(library, dst, rank)))
    library.run(src, dst, memories)
    for rank in range(num_ranks):
        arrays = {name: memories[rank][1][number].view(np.float32) for number, name, size in library.buffers(dst, rank)}
        found.append({f"model.layers.{layer}.{name}.weight":
                      tuple(arrays[f"model.layers.{layer}.{name}.lora_{letter}.weight"].reshape(array.shape)
                            for letter, array in zip("AB", pair)) for (layer, name), pair in pairs.items()})
    for layout in (src, dst):
        library.dll.reshard_layout_destroy(layout)
    return found


def run_case(library, source, num_trainers, servers, num_servers):
    pairs, tensors = adapters(source.startswith("megatron")), weights()
    kind, _, rest = source.partition(":")
    settings = {key: int(value) for key, value in (item.split("=") for item in rest.split(","))}
    held = getattr(memory, kind)(CONFIG, bits(tensors), settings)
    wanted = memory.vllm(CONFIG, bits(merged(tensors, pairs)), {"tp": num_servers})
    gathered = gather_adapters(library, source, pairs, num_trainers)
    total = num_trainers + num_servers
    src, dst = library.layout(CONFIG, source, 0, total), library.layout(CONFIG, servers, num_trainers, total)
    memories, problems, touched = [], [], 0
    for rank in range(num_trainers):
        mine = {number: np.where(held[rank][name] == memory.PAD, 0, held[rank][name]).astype(np.uint32)
                for number, name, size in library.buffers(src, rank) if size}
        count = merge(library, src, rank, mine, gathered[rank])
        touched += count
        if num_trainers > 1 and count >= sum(b.shape[0] * a.shape[1] for a, b in pairs.values()):
            problems.append(f"rank {rank} holds all of W")
        memories.append((mine, {}))
    memories += [({}, empty_buffers(library, dst, rank)) for rank in range(num_trainers, total)]
    library.run(src, dst, memories)
    for rank in range(num_trainers, total):
        want = wanted[rank - num_trainers]
        for number, name, size in library.buffers(dst, rank):
            expected = np.where(want[name] == memory.PAD, 0, want[name]).ravel()
            if size and not (memories[rank][1][number] == expected).all():
                problems.append(f"rank {rank}: {name} is wrong")
    for layout in (src, dst):
        library.dll.reshard_layout_destroy(layout)
    return problems, touched


# (text, ranks)
SOURCES = [("fsdp:shard=1", 1), ("fsdp:shard=3", 3), ("fsdp:shard=5", 5), ("megatron:tp=1", 1), ("megatron:tp=2", 2),
           ("megatron:tp=4", 4), ("megatron:tp=8", 8)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", required=True)
    library = capi.Library(parser.parse_args().library)
    failed = num_cases = 0
    for source, num_trainers in SOURCES:
        for num_servers in (1, 2, 4):
            problems, touched = run_case(library, source, num_trainers, f"vllm:tp={num_servers}", num_servers)
            least = sum(b.shape[0] * a.shape[1] for a, b in adapters(False).values())
            if touched < least:
                problems.append(f"{touched} elements were merged, of {least}")
            failed += bool(problems)
            num_cases += 1
            print("".join(f"{source} -> vllm:tp={num_servers}: {problem}\n" for problem in problems[:5]), end="")
    print(f"{num_cases} transfers of merged weights, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
