# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Reads and writes safetensors files, as strictly as the format's own library reads them."""

import json
import math
import struct

from elements import SIZE_BYTES


class FormatError(Exception):
    pass


def _object_without_duplicates(pairs):
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise FormatError("key %r stands twice in the header" % key)
    return dict(pairs)


def _parse_header(raw, path):
    if len(raw) < 8:
        raise FormatError("%s: %d bytes are too few for a header" % (path, len(raw)))
    (size,) = struct.unpack("<Q", raw[:8])
    if size > len(raw) - 8:
        raise FormatError("%s: the header claims %d bytes of %d" % (path, size, len(raw) - 8))
    text = raw[8:8 + size]
    if not text.startswith(b"{"):
        raise FormatError("%s: the header does not begin with '{'" % path)
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_object_without_duplicates)
    except ValueError as error:
        raise FormatError("%s: the header is not JSON: %s" % (path, error))
    metadata = header.pop("__metadata__", {})
    if not all(isinstance(v, str) for v in metadata.values()):
        raise FormatError("%s: __metadata__ holds something that is not a string" % path)
    return header, 8 + size


def read(path):
    """{name: (dtype, shape, bytes)} of a file; a hole, an overlap or a wrong size is a FormatError."""
    with open(path, "rb") as file:
        raw = file.read()
    header, start = _parse_header(raw, path)
    tensors, spans = {}, []
    for name, entry in header.items():
        if sorted(entry) != ["data_offsets", "dtype", "shape"]:
            raise FormatError("%s: %r has the keys %s" % (path, name, sorted(entry)))
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if dtype not in SIZE_BYTES:
            raise FormatError("%s: %r has the unknown dtype %r" % (path, name, dtype))
        if end - begin != math.prod(shape) * SIZE_BYTES[dtype]:
            raise FormatError("%s: %r, %s %s, lies in [%d, %d)" % (path, name, dtype, shape, begin, end))
        spans.append((begin, end, name))
        tensors[name] = (dtype, list(shape), raw[start + begin:start + end])
    at = 0
    for begin, end, name in sorted(spans):
        if begin != at:
            raise FormatError("%s: %r begins at %d, the one before it ends at %d" % (path, name, begin, at))
        at = end
    if start + at != len(raw):
        raise FormatError("%s: tensors end at byte %d of %d" % (path, start + at, len(raw)))
    return tensors


def write(path, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode("utf-8")
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)
