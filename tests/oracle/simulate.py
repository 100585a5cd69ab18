# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""simulate.py SPEC DUMP_DIR [--load FILE]: moves the elements one by one and writes the dump a right transfer writes.

It reads only what the source ranks hold, in their own local order, so it also shows that the source suffices.
"""

import argparse
import os

import elements
import safetensors
import spec as spec_module


def source_shards(tensor, loaded):
    """{rank: local source bytes} with 0xEE in the padding, which no destination may ever show."""
    size = elements.SIZE_BYTES[tensor.src.dtype]
    values = loaded[tensor.name][2] if loaded else elements.tensor_bytes(
        tensor.name, tensor.num_elements, tensor.src.dtype, tensor.dst.dtype, "src")
    return {
        rank: b"".join(b"\xee" * size if i is None else values[i * size:(i + 1) * size]
                       for i in tensor.src.index_map(rank))
        for rank in tensor.src.ranks
    }


def move(tensor, loaded=None):
    """{rank: local destination bytes}."""
    shards = source_shards(tensor, loaded)
    size = elements.SIZE_BYTES[tensor.src.dtype]
    found = {}
    for rank in tensor.src.ranks:
        for place, index in enumerate(tensor.src.index_map(rank)):
            if index is not None:
                bits = int.from_bytes(shards[rank][place * size:(place + 1) * size], "little")
                found[index] = elements.convert(bits, tensor.src.dtype, tensor.dst.dtype)
    size = elements.SIZE_BYTES[tensor.dst.dtype]
    return {
        rank: b"".join((0 if i is None else found[i]).to_bytes(size, "little") for i in tensor.dst.index_map(rank))
        for rank in tensor.dst.ranks
    }


def dump(spec, dump_dir, load_file=None):
    loaded = safetensors.read(load_file) if load_file else None
    files = {rank: {} for rank in range(spec.num_ranks)}
    for tensor in spec.tensors:
        for rank, data in move(tensor, loaded).items():
            files[rank][tensor.name] = (tensor.dst.dtype, tensor.dst.local_shape(rank), data)
    for rank, tensors in files.items():
        if tensors:
            safetensors.write(os.path.join(dump_dir, "rank%05d.safetensors" % rank), tensors)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec")
    parser.add_argument("dump_dir")
    parser.add_argument("--load")
    args = parser.parse_args()
    os.makedirs(args.dump_dir, exist_ok=True)
    dump(spec_module.load(args.spec), args.dump_dir, args.load)


if __name__ == "__main__":
    main()
