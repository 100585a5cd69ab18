# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The general form of reshard_perf --spec, by brute force: which global index lies where on every rank.

Per dimension a rank holds a list of global indices in local order. Every rule only splits such lists, so the whole
meaning of a placement is the handful of split functions below.
"""

import itertools
import json
import math
import sys

from elements import SIZE_BYTES, convertible

MAX_DIMS = 8


class SpecError(Exception):
    pass


def require(condition, text, *values):
    if not condition:
        raise SpecError(text % values)


def is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def check_keys(thing, what, required, optional=()):
    require(isinstance(thing, dict), "%s is not an object", what)
    for key in thing:
        require(key in required or key in optional, "unknown key %r in %s", key, what)
    for key in required:
        require(key in thing, "key %r is missing in %s", key, what)


# ---- rules: split(list, parts) -> one list per coordinate


def split_chunk(items, parts):
    size = -(-len(items) // parts)
    return [items[r * size:(r + 1) * size] for r in range(parts)]


def split_balanced(items, parts):
    base, larger = divmod(len(items), parts)
    starts = [r * base + min(r, larger) for r in range(parts + 1)]
    return [items[starts[r]:starts[r + 1]] for r in range(parts)]


def split_even(items, parts):
    require(len(items) % parts == 0, "even: %d does not divide %d", parts, len(items))
    return split_chunk(items, parts)


def split_cuts(items, parts, cuts):
    require(isinstance(cuts, list) and all(is_count(c) for c in cuts), "cuts %r are not counts", cuts)
    require(len(cuts) == parts + 1, "%d cuts for %d parts", len(cuts), parts)
    require(cuts == sorted(cuts) and cuts[0] == 0, "cuts %r do not ascend from 0", cuts)
    require(cuts[-1] == len(items), "cuts end at %d, the list has %d", cuts[-1], len(items))
    return [items[cuts[r]:cuts[r + 1]] for r in range(parts)]


def split_block(items, parts, block):
    require(is_count(block) and block >= 1, "block %r is not a positive count", block)
    return [[x for i, x in enumerate(items) if i // block % parts == r] for r in range(parts)]


def table_entry(entry, length):
    """The positions that one entry of a table names."""
    if is_count(entry):
        entry = [entry, entry + 1]
    is_range = isinstance(entry, list) and len(entry) == 2 and all(is_count(x) for x in entry)
    require(is_range, "entry %r of a table", entry)
    require(entry[0] <= entry[1] <= length, "entry %r of a table over %d", entry, length)
    return range(entry[0], entry[1])


def split_table(items, parts, table):
    require(isinstance(table, list) and len(table) == parts, "a table of %d parts is %r", parts, table)
    lists = []
    for row in table:
        require(isinstance(row, list), "row %r of a table", row)
        lists.append([items[i] for entry in row for i in table_entry(entry, len(items))])
    return lists


RULES = {"chunk": split_chunk, "balanced": split_balanced, "even": split_even}
VALUED = {"cuts": split_cuts, "block": split_block, "table": split_table}


def check_placement(placement, num_dims):
    if placement == "replicate":
        return
    check_keys(placement, "a placement", ["shard"], ["rule", "cuts", "block", "table"])
    require(len(placement) <= 2, "more than one of rule, cuts, block, table: %r", placement)
    dim = placement["shard"]
    require(is_count(dim) and dim < num_dims, "shard %r of %d dims", dim, num_dims)
    require("rule" not in placement or placement["rule"] in list(RULES), "rule %r", placement.get("rule"))


def split(placement, items, parts):
    """The lists of all coordinates of an axis whose placement shards."""
    for key, function in VALUED.items():
        if key in placement:
            return function(items, parts, placement[key])
    return RULES[placement.get("rule", "chunk")](items, parts)


# ---- one side of one tensor


class Side:
    def __init__(self, raw, shape, num_ranks, what):
        check_keys(raw, what, ["dtype", "mesh", "placements"], ["nest", "order", "pad_to"])
        self.shape = shape
        require(isinstance(raw["dtype"], str) and raw["dtype"].upper() in SIZE_BYTES, "dtype %r", raw["dtype"])
        self.dtype = raw["dtype"].upper()
        self._read_mesh(raw["mesh"], num_ranks)
        self.placements = raw["placements"]
        require(isinstance(self.placements, list), "placements of %s is not a list", what)
        num_placements, num_axes = len(self.placements), len(self.sizes)
        require(num_placements == num_axes, "%d placements for %d axes", num_placements, num_axes)
        for placement in self.placements:
            check_placement(placement, len(shape))
        self.nest = raw.get("nest", "outer_first")
        require(self.nest in ("outer_first", "inner_first"), "nest %r", self.nest)
        order = raw.get("order", list(range(len(shape))))
        require(isinstance(order, list) and all(is_count(d) for d in order), "order %r", order)
        require(sorted(order) == list(range(len(shape))), "order %r of %d dims", order, len(shape))
        self._dims = [self._dim_lists(d) for d in range(len(shape))]
        self.pad_to = None
        if "pad_to" in raw:
            self._read_pad_to(raw["pad_to"])

    def _read_mesh(self, mesh, num_ranks):
        check_keys(mesh, "a mesh", ["axes", "ranks"])
        axes, ranks = mesh["axes"], mesh["ranks"]
        require(isinstance(axes, list) and isinstance(ranks, list), "mesh %r", mesh)
        for axis in axes:
            require(isinstance(axis, list) and len(axis) == 2 and isinstance(axis[0], str), "axis %r", axis)
            require(is_count(axis[1]) and axis[1] >= 1, "axis %r", axis)
        names = [axis[0] for axis in axes]
        require(len(set(names)) == len(names), "axes with one name: %r", names)
        self.sizes = [axis[1] for axis in axes]
        require(math.prod(self.sizes) == len(ranks), "axes of %r for %d ranks", self.sizes, len(ranks))
        for rank in ranks:
            require(is_count(rank) and rank < num_ranks, "rank %r of %d", rank, num_ranks)
            require(ranks.count(rank) == 1, "rank %r stands in the mesh twice", rank)
        self.ranks = ranks

    def _dim_lists(self, dim):
        """{coordinates: list of global indices} of one dimension; splits and so checks every list."""
        axes = [a for a, p in enumerate(self.placements) if p != "replicate" and p["shard"] == dim]
        if self.nest == "inner_first":
            axes.reverse()
        lists = {(): list(range(self.shape[dim]))}
        for axis in axes:
            lists = {
                key + (coordinate,): part
                for key, items in lists.items()
                for coordinate, part in enumerate(split(self.placements[axis], items, self.sizes[axis]))
            }
        return axes, lists

    def _read_pad_to(self, pad_to):
        require(isinstance(pad_to, list) and all(is_count(n) for n in pad_to), "pad_to %r", pad_to)
        require(len(pad_to) == len(self.shape), "pad_to %r of %d dims", pad_to, len(self.shape))
        for dim, (_, lists) in enumerate(self._dims):
            longest = max(map(len, lists.values()))
            require(pad_to[dim] >= longest, "pad_to %d of dim %d, a rank holds %d", pad_to[dim], dim, longest)
        self.pad_to = pad_to

    def indices(self, rank):
        """Per dimension the global indices that the rank holds, in local order."""
        place, coordinates = self.ranks.index(rank), []
        for size in reversed(self.sizes):
            place, coordinate = divmod(place, size)
            coordinates.insert(0, coordinate)
        return [lists[tuple(coordinates[a] for a in axes)] for axes, lists in self._dims]

    def local_shape(self, rank):
        return list(self.pad_to) if self.pad_to is not None else [len(items) for items in self.indices(rank)]

    def global_indices(self, rank):
        """Row-major global indices of the data elements on the rank, padding left out."""
        steps = strides_of(self.shape)
        return [sum(i * s for i, s in zip(index, steps)) for index in itertools.product(*self.indices(rank))]

    def index_map(self, rank):
        """The local tensor, row-major: each element's global row-major index, or None in the padding."""
        indices, shape = self.indices(rank), self.local_shape(rank)
        steps = strides_of(self.shape)
        out = []
        for place in itertools.product(*map(range, shape)):
            inside = all(p < len(items) for p, items in zip(place, indices))
            out.append(sum(items[p] * s for p, items, s in zip(place, indices, steps)) if inside else None)
        return out


def strides_of(shape):
    strides, stride = [], 1
    for extent in reversed(shape):
        strides.insert(0, stride)
        stride *= extent
    return strides


class Tensor:
    def __init__(self, raw, num_ranks):
        check_keys(raw, "a tensor", ["name", "shape", "src", "dst"], ["group"])
        self.name, self.shape, self.group = raw["name"], raw["shape"], raw.get("group", 0)
        require(isinstance(self.name, str) and self.name != "", "tensor name %r", self.name)
        require(isinstance(self.group, int) and not isinstance(self.group, bool), "group %r", self.group)
        require(isinstance(self.shape, list) and all(is_count(n) for n in self.shape), "shape %r", self.shape)
        require(len(self.shape) <= MAX_DIMS, "%d dims", len(self.shape))
        self.src = Side(raw["src"], self.shape, num_ranks, "src of %r" % self.name)
        self.dst = Side(raw["dst"], self.shape, num_ranks, "dst of %r" % self.name)
        require(convertible(self.src.dtype, self.dst.dtype), "no conversion %s -> %s", self.src.dtype, self.dst.dtype)
        self.num_elements = math.prod(self.shape)

    def check_covered(self):
        held = bytearray(self.num_elements)
        for rank in self.src.ranks:
            for index in self.src.global_indices(rank):
                held[index] = 1
        for rank in self.dst.ranks:
            for index in self.dst.global_indices(rank):
                require(held[index], "not covered: element %d of %r, needed on rank %d", index, self.name, rank)


class Spec:
    def __init__(self, raw):
        check_keys(raw, "the spec", ["version", "ranks", "tensors"])
        require(raw["version"] == 1 and is_count(raw["version"]), "version %r", raw["version"])
        self.num_ranks = raw["ranks"]
        require(is_count(self.num_ranks) and self.num_ranks >= 1, "ranks %r", self.num_ranks)
        require(isinstance(raw["tensors"], list), "tensors is not a list")
        self.tensors = [Tensor(t, self.num_ranks) for t in raw["tensors"]]
        names = [t.name for t in self.tensors]
        for name in names:
            require(names.count(name) == 1, "tensor %r stands twice", name)
        for tensor in self.tensors:
            tensor.check_covered()


def parse(text):
    """The Spec of the text or bytes of a file."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError("not JSON: %s" % error)
    return Spec(raw)


def load(path):
    with open(path, "rb") as file:
        return parse(file.read())


def main():
    """Prints every local tensor as global indices: a look at what a spec means."""
    for tensor in load(sys.argv[1]).tensors:
        for what, side in (("src", tensor.src), ("dst", tensor.dst)):
            for rank in side.ranks:
                print(tensor.name, what, "rank", rank, side.dtype, side.local_shape(rank), side.index_map(rank))


if __name__ == "__main__":
    main()
