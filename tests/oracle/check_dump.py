# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""check_dump.py SPEC DUMP_DIR [--load FILE]: proves a dump of reshard_perf, or names the first difference."""

import argparse
import os
import re
import sys

import elements
import safetensors
import spec as spec_module


class DumpError(Exception):
    pass


def source_values(tensor, loaded):
    """All elements of the tensor as its destination must hold them, row-major."""
    src, dst = tensor.src.dtype, tensor.dst.dtype
    if loaded is None:
        return elements.tensor_bytes(tensor.name, tensor.num_elements, src, dst, "dst")
    dtype, shape, data = loaded[tensor.name]
    if (dtype, shape) != (src, tensor.shape):
        raise DumpError("the loaded %r is %s %s, the spec says %s %s" % (tensor.name, dtype, shape, src, tensor.shape))
    return elements.convert_bytes(data, src, dst)


def expected_bytes(tensor, rank, values):
    size = elements.SIZE_BYTES[tensor.dst.dtype]
    zero = bytes(size)
    return b"".join(zero if i is None else values[i * size:(i + 1) * size] for i in tensor.dst.index_map(rank))


def equal_elements(got, want, tensor):
    """Bit for bit; after a conversion any NaN stands for any other."""
    if got == want:
        return True
    dtype = tensor.dst.dtype
    return tensor.src.dtype != dtype and elements.is_nan(int.from_bytes(got, "little"), dtype) \
        and elements.is_nan(int.from_bytes(want, "little"), dtype)


def compare_tensor(tensor, rank, entry, values):
    dtype, shape, data = entry
    where = "rank %d, tensor %r" % (rank, tensor.name)
    if dtype != tensor.dst.dtype:
        raise DumpError("%s: dtype %s, expected %s" % (where, dtype, tensor.dst.dtype))
    if shape != tensor.dst.local_shape(rank):
        raise DumpError("%s: shape %s, expected %s" % (where, shape, tensor.dst.local_shape(rank)))
    want = expected_bytes(tensor, rank, values)
    if data == want:
        return
    size, index_map, wrong = elements.SIZE_BYTES[dtype], tensor.dst.index_map(rank), []
    for place, index in enumerate(index_map):
        at = slice(place * size, (place + 1) * size)
        if not equal_elements(data[at], want[at], tensor):
            wrong.append((place, index, data[at], want[at]))
    if wrong:
        place, index, got, expected = wrong[0]
        what = "padding" if index is None else "global element %d" % index
        raise DumpError("%s: %d of %d elements differ; the first is local element %d of %s (%s): 0x%s, expected 0x%s" %
                        (where, len(wrong), len(index_map), place, shape, what, got[::-1].hex(), expected[::-1].hex()))


def check_files(spec, dump_dir):
    """Every rank that holds something has its file, and no file belongs to nobody."""
    for name in sorted(os.listdir(dump_dir)):
        match = re.fullmatch(r"rank(\d{5,})\.safetensors", name)
        if not match or int(match.group(1)) >= spec.num_ranks or name != file_name(int(match.group(1))):
            raise DumpError("%s does not belong in a dump of %d ranks" % (name, spec.num_ranks))


def file_name(rank):
    return "rank%05d.safetensors" % rank


def check(spec, dump_dir, load_file=None):
    """Raises DumpError or safetensors.FormatError at the first difference."""
    loaded = safetensors.read(load_file) if load_file else None
    values = {t.name: source_values(t, loaded) for t in spec.tensors}
    check_files(spec, dump_dir)
    for rank in range(spec.num_ranks):
        path = os.path.join(dump_dir, file_name(rank))
        held = {t.name: t for t in spec.tensors if rank in t.dst.ranks}
        if not os.path.exists(path):
            if held:
                raise DumpError("%s is missing" % path)
            continue
        dumped = safetensors.read(path)
        if set(dumped) != set(held):
            raise DumpError("rank %d: missing tensors %s, tensors too many %s" % (
                rank, sorted(set(held) - set(dumped)), sorted(set(dumped) - set(held))))
        for name, tensor in held.items():
            compare_tensor(tensor, rank, dumped[name], values[name])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec")
    parser.add_argument("dump_dir")
    parser.add_argument("--load", help="the safetensors file that gave the source its values")
    args = parser.parse_args()
    try:
        check(spec_module.load(args.spec), args.dump_dir, args.load)
    except (DumpError, safetensors.FormatError, spec_module.SpecError, OSError) as error:
        print("check_dump: %s" % error, file=sys.stderr)
        return 1
    print("check_dump: every element is right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
