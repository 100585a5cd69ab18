#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The layouts of vLLM, Megatron and FSDP2 against records of what their ranks hold, element by element.

usage: compare_memory.py --library LIBRESHARD.SO [--only TEXT]

Every parameter that a rank has must be a buffer of the library's under the same name, as large and of the same type,
with the same element of the same checkpoint tensor at every place, and zeros where the framework has zeros; no buffer
may be there beside them. A model that the library refuses as not supported is counted and printed, unless its family is
in MUST_KNOW. Where the library is meant to differ, tests/data/families/known_differences.json says so and why; a rule
there that excuses nothing is a failure, too.
"""
import argparse
import json
import sys

import numpy as np

import boxes
import compare_files  # which also shows where capi is
import capi
import contents
import names

SIZES = {"BF16": np.uint16, "F16": np.uint16, "F32": np.uint32}
KINDS = {1: boxes.ZERO, 2: boxes.UNTOUCHED}  # RESHARD_BLOCK_ZERO, RESHARD_BLOCK_UNTOUCHED


def as_recorded(name, checkpoint):
    """transformers writes the dense layers of Kimi-Linear under the name that published files have for the others."""
    stack = checkpoint.stacked(name)[0]
    return name if stack in checkpoint.shapes else name.replace(".mlp.", ".block_sparse_moe.")


def paint(memory, checkpoint, tensor, block, item_size):
    """Puts into the flat array of a buffer what a block says of it."""
    name, dims = as_recorded(tensor[0], checkpoint), len(tensor[2])
    extents = [block.end[d] - block.begin[d] for d in range(dims)]
    places = np.array(block.offset_bytes // item_size)
    values = np.array(KINDS.get(block.kind, 0))
    for dim, extent in enumerate(extents):
        along = [1] * dims
        along[dim] = extent
        places = places + (np.arange(extent) * (block.strides_bytes[dim] // item_size)).reshape(along)
    if block.kind not in KINDS:
        values = checkpoint.numbers(name)[tuple(slice(block.begin[d], block.end[d]) for d in range(dims))]
    places, values = np.broadcast_arrays(places, values)
    assert (memory[places.ravel()] == boxes.UNTOUCHED).all(), f"{name}: blocks overlap"
    memory[places.ravel()] = values.ravel()


def held_by(library, layout, checkpoint, rank):
    """{buffer: (type, flat array of numbers)} of the library's layout."""
    tensors = library.tensors(layout)
    blocks = {}
    for block in library.blocks(layout, rank):
        blocks.setdefault(block.buffer, []).append(block)
    found = {}
    for number, name, size in library.buffers(layout, rank):
        if size == 0:  # an empty shard
            continue
        (dtype,) = {tensors[block.tensor][1] for block in blocks[number]}
        item_size = np.dtype(SIZES[dtype]).itemsize
        memory = np.full(size // item_size, boxes.UNTOUCHED)
        for block in blocks[number]:
            paint(memory, checkpoint, tensors[block.tensor], block, item_size)
        found[name] = (dtype, memory)
    return found


def difference(ours, theirs):
    """What differs between two (type, array), or nothing."""
    if ours is None or theirs is None:
        return "not there here" if ours is None else "not there in the framework"
    (our_type, our_memory), (their_type, their_memory) = ours, theirs
    if our_memory.size != their_memory.size:
        return f"{our_memory.size} elements, in the framework {their_memory.size}"
    others = np.flatnonzero(our_memory != their_memory)
    if others.size:
        return f"{others.size} of {our_memory.size} elements are others, the first at {others[0]}"
    return f"{our_type}, in the framework {their_type}" if our_type != their_type else ""


def compare_rank(library, layout, checkpoint, record, text, rank):
    """{parameter: what differs} of one rank."""
    ours = held_by(library, layout, checkpoint, rank)
    held = contents.of_rank(record, record["ranks"][text][rank])
    theirs = {name: (dtype, boxes.paint(checkpoint, shape, lines).ravel())
              for name, (dtype, shape, lines) in held.items() if 0 not in shape}
    found = {name: difference(ours.get(name), theirs.get(name)) for name in ours.keys() | theirs.keys()}
    return {name: text for name, text in found.items() if text}


def compare(library, config, files, record, text):
    """{"ranks, parameters": what differs}."""
    checkpoint, ranks = boxes.Checkpoint(files), record["ranks"][text]
    if library.num_ranks(text) != len(ranks):
        return {"": f"{library.num_ranks(text)} ranks, recorded {len(ranks)}"}
    layout = library.layout(config, text, 0, len(ranks))
    try:
        by_rank = [names.compress(compare_rank(library, layout, checkpoint, record, text, rank))
                   for rank in range(len(ranks))]
    finally:
        library.dll.reshard_layout_destroy(layout)
    found = {}
    for rank, lines in enumerate(by_rank):
        for line, what in lines.items():
            found.setdefault((line, what), []).append(rank)
    return {f"{names.ranges(ranks)} {line}": what for (line, what), ranks in found.items()}


class Record:
    """What one family's workers hold, and the checkpoints that it comes from."""

    def __init__(self, path):
        content = json.loads(path.read_text(encoding="utf-8"))
        self.family, self.models = content["family"], content["models"]
        self.sources = json.loads((compare_files.RECORDS / path.name).read_text(encoding="utf-8"))["models"]

    def engines(self):
        """(title of a model, its config, names and types of its checkpoint, its record, text of an engine)."""
        for variant, record in self.models.items():
            source = self.sources[variant]
            for text in record["ranks"]:
                yield f"{self.family} {variant}", source["config"], names.expand(source["files"]), record, text


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", required=True)
    parser.add_argument("--only", default="", help="models whose \"family model text\" contains this")
    arguments = parser.parse_args()
    library, known = capi.Library(arguments.library), compare_files.KnownDifferences()
    outcomes = compare_files.Outcomes(arguments.only != "")
    for path in sorted(compare_files.RECORDS.glob("*/*.json")):
        for title, config, files, record, text in Record(path).engines():
            if arguments.only in f"{title} {text}":
                outcomes.add(title, *compare_files.judge(
                    f"{title} {text}", known, lambda: compare(library, config, files, record, text)))
    unused = [] if arguments.only else sum(map(known.unused, (" vllm:", " megatron:", " fsdp:")), [])
    sys.exit(outcomes.finish("engines and jobs", unused))


if __name__ == "__main__":
    main()
