# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Makes a failing spec smaller while it still fails: each step is one simplification that leaves a valid spec."""

import copy
import time

import tool  # noqa: F401  (finds the oracle)
import spec as spec_module


def without_tensor(raw):
    for i in range(len(raw["tensors"])):
        if len(raw["tensors"]) > 1:
            smaller = copy.deepcopy(raw)
            del smaller["tensors"][i]
            yield smaller


def edited(raw, edit, *args):
    """One copy of the spec for every tensor, with that tensor edited."""
    for i in range(len(raw["tensors"])):
        smaller = copy.deepcopy(raw)
        edit(smaller["tensors"][i], *args)
        yield smaller


def edited_side(raw, edit, *args):
    for side in ("src", "dst"):
        yield from edited(raw, lambda tensor, s=side: edit(tensor[s], *args))


def drop_axis(side, axis):
    """Keeps the ranks of coordinate 0."""
    sizes = [size for _, size in side["mesh"]["axes"]]
    if len(sizes) < 2 or axis >= len(sizes):
        return
    inner = 1
    for size in sizes[axis + 1:]:
        inner *= size
    side["mesh"]["ranks"] = [r for i, r in enumerate(side["mesh"]["ranks"]) if i // inner % sizes[axis] == 0]
    del side["mesh"]["axes"][axis]
    del side["placements"][axis]


def shorten_axis(side, axis):
    """Keeps the ranks of all coordinates but the last."""
    if axis >= len(side["mesh"]["axes"]):
        return
    sizes = [size for _, size in side["mesh"]["axes"]]
    inner = 1
    for size in sizes[axis + 1:]:
        inner *= size
    if sizes[axis] < 2:
        return
    last = sizes[axis] - 1
    side["mesh"]["ranks"] = [r for i, r in enumerate(side["mesh"]["ranks"]) if i // inner % sizes[axis] != last]
    side["mesh"]["axes"][axis][1] -= 1
    placement = side["placements"][axis]
    if isinstance(placement, dict) and "table" in placement:
        del placement["table"][-1]
    if isinstance(placement, dict) and "cuts" in placement:
        del placement["cuts"][-2]


def plain_placement(side, axis, placement):
    if axis < len(side["placements"]) and side["placements"][axis] != "replicate":
        chunk = {"shard": side["placements"][axis]["shard"]}
        side["placements"][axis] = placement if placement == "replicate" else chunk


def drop_key(side, key):
    side.pop(key, None)


def drop_dim(tensor, dim):
    if dim >= len(tensor["shape"]):
        return
    del tensor["shape"][dim]
    for side in (tensor["src"], tensor["dst"]):
        for axis, placement in enumerate(side["placements"]):
            if placement != "replicate" and placement["shard"] == dim:
                side["placements"][axis] = "replicate"
            elif placement != "replicate" and placement["shard"] > dim:
                placement["shard"] -= 1
        side["order"] = [d - (d > dim) for d in side.get("order", range(len(tensor["shape"]) + 1)) if d != dim]
        if "pad_to" in side:
            del side["pad_to"][dim]


def smaller_extent(tensor, dim, extent):
    """Indices and cuts beyond the new extent go."""
    if dim >= len(tensor["shape"]) or extent >= tensor["shape"][dim] or extent < 0:
        return
    tensor["shape"][dim] = extent
    for side in (tensor["src"], tensor["dst"]):
        for placement in side["placements"]:
            if placement == "replicate" or placement["shard"] != dim:
                continue
            if "cuts" in placement:
                placement["cuts"] = [min(c, extent) for c in placement["cuts"]]
            if "table" in placement:
                placement["table"] = [shorter_row(row, extent) for row in placement["table"]]


def shorter_row(row, extent):
    out = []
    for entry in row:
        if isinstance(entry, list):
            entry = [min(x, extent) for x in entry]
            out += [entry] if entry[0] < entry[1] else []
        elif entry < extent:
            out.append(entry)
    return out


def plain_dtype(tensor, dtype):
    tensor["src"]["dtype"] = tensor["dst"]["dtype"] = dtype


def set_key(tensor, key, value):
    tensor[key] = value


def fewer_ranks(raw):
    """Renumbers the ranks in use 0, 1, ..."""
    used = sorted({r for t in raw["tensors"] for s in ("src", "dst") for r in t[s]["mesh"]["ranks"]})
    smaller = copy.deepcopy(raw)
    smaller["ranks"] = len(used)
    for tensor in smaller["tensors"]:
        for side in (tensor["src"], tensor["dst"]):
            side["mesh"]["ranks"] = [used.index(r) for r in side["mesh"]["ranks"]]
    yield smaller


def candidates(raw):
    yield from without_tensor(raw)
    yield from fewer_ranks(raw)
    for axis in range(3):
        yield from edited_side(raw, drop_axis, axis)
    for dim in range(8):
        yield from edited(raw, drop_dim, dim)
    for axis in range(3):
        yield from edited_side(raw, plain_placement, axis, "replicate")
        yield from edited_side(raw, plain_placement, axis, "chunk")
        yield from edited_side(raw, shorten_axis, axis)
    for key in ("pad_to", "order", "nest"):
        yield from edited_side(raw, drop_key, key)
    for dim in range(8):
        for part in (0.5, 0.75, 1):
            for i, tensor in enumerate(raw["tensors"]):
                if dim < len(tensor["shape"]) and tensor["shape"][dim] > 0:
                    smaller = copy.deepcopy(raw)
                    smaller_extent(smaller["tensors"][i], dim, int(tensor["shape"][dim] * part) - (part == 1))
                    yield smaller
    for dtype in ("U8", "F32"):
        yield from edited(raw, plain_dtype, dtype)
    yield from edited(raw, set_key, "name", "w")
    yield from edited(raw, set_key, "group", 0)


def shrink(raw, fails, seconds=60):
    """The smallest spec found for which fails(spec) is still true."""
    deadline = time.monotonic() + seconds
    tried = {repr(raw)}
    again = True
    while again:
        again = False
        for smaller in candidates(raw):
            if time.monotonic() > deadline:
                return raw
            if repr(smaller) in tried:
                continue
            tried.add(repr(smaller))
            try:
                spec_module.Spec(smaller)
            except spec_module.SpecError:
                continue
            if fails(smaller):
                raw, again = smaller, True
                break
    return raw
