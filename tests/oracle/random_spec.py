# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""random_spec.py --seed N: a valid random spec on stdout. --invalid: the list of broken specs of broken_specs.py."""

import argparse
import itertools
import json
import random
import sys

import spec as spec_module
from elements import FLOAT_FORMATS, SIZE_BYTES

NAMES = ["w", "model.layers.0.self_attn.q_proj.weight", "a b", "x/y", "quote\"d", "back\\slash", "\u00e9\u6a21", "L.0",
         "%s"]
AXIS_NAMES = ["dp", "tp", "ep", "pp"]
EXTENTS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 24, 31, 33, 64]


class Generator:
    def __init__(self, seed, max_ranks=16, max_elements=3000):
        self.rng = random.Random(seed)
        self.max_ranks, self.max_elements = max_ranks, max_elements

    def chance(self, probability):
        return self.rng.random() < probability

    def spec(self):
        """A spec that covers its destination: drawn again until it does, source tables are made to."""
        num_ranks = self.rng.choice([1, 2, 3, 4, 4, 5, 6, 8, 8, 11, 16])
        num_ranks = min(num_ranks, self.max_ranks)
        raw = {"version": 1, "ranks": num_ranks, "tensors": []}
        for i in range(self.rng.choice([1, 1, 2, 3, 5, 7])):
            name = self.rng.choice(NAMES) + ("" if i == 0 else str(i))
            raw["tensors"].append(self.tensor(name, num_ranks))
        spec_module.Spec(raw)  # raises if this generator ever makes an invalid one
        return raw

    def shape(self):
        num_dims = self.rng.choice([0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 5, 8])
        shape, size = [], 1
        for _ in range(num_dims):
            extent = self.rng.choice(EXTENTS)
            if size * extent > self.max_elements:
                extent = min(self.rng.randint(1, 2), max(1, self.max_elements // size))
            shape.append(extent)
            size *= extent
        self.rng.shuffle(shape)
        if shape and self.chance(0.05):
            shape[self.rng.randrange(len(shape))] = 0
        return shape

    def dtypes(self):
        if self.chance(0.35):
            return self.rng.sample(sorted(FLOAT_FORMATS), 2)
        dtype = self.rng.choice(sorted(SIZE_BYTES))
        return [dtype, dtype]

    def tensor(self, name, num_ranks):
        shape, (src, dst) = self.shape(), self.dtypes()
        src_ranks, dst_ranks = self.rank_pools(num_ranks)
        return {
            "name": name, "group": self.rng.choice([0, 0, 1, 2, 3, 7, 100000, -2]), "shape": shape,
            "src": self.side(shape, src, src_ranks, True), "dst": self.side(shape, dst, dst_ranks, False),
        }

    def rank_pools(self, num_ranks):
        """The ranks that either side may use: the same, disjoint, or any overlap."""
        everyone = list(range(num_ranks))
        if self.chance(0.5):
            self.rng.shuffle(everyone)
        kind = self.rng.choice(["same", "disjoint", "any"])
        if kind == "disjoint" and num_ranks > 1:
            cut = self.rng.randint(1, num_ranks - 1)
            return everyone[:cut], everyone[cut:]
        if kind == "same":
            return everyone, everyone
        return everyone, self.rng.sample(everyone, num_ranks)

    def axis_sizes(self, most):
        sizes, size = [], 1
        for _ in range(self.rng.choice([1, 1, 2, 2, 3])):
            fit = [n for n in range(1, most // size + 1)]
            sizes.append(self.rng.choice(fit[-3:] if self.chance(0.5) else fit))
            size *= sizes[-1]
        self.rng.shuffle(sizes)
        return sizes, size

    def side(self, shape, dtype, pool, is_source):
        sizes, size = self.axis_sizes(len(pool))
        side = {
            "dtype": "".join(self.rng.choice([c.upper(), c.lower()]) for c in dtype) if self.chance(0.5) else dtype,
            "mesh": {"axes": [[n, s] for n, s in zip(self.rng.sample(AXIS_NAMES, len(sizes)), sizes)],
                     "ranks": pool[:size] if self.chance(0.5) else self.rng.sample(pool, size)},
            "placements": ["replicate"] * len(sizes),
        }
        if self.chance(0.4):
            side["nest"] = self.rng.choice(["inner_first", "inner_first", "outer_first"])
        inner_first = side.get("nest") == "inner_first"
        dims = [self.rng.choice([None] + list(range(len(shape))) * 2) for _ in sizes]
        for dim in range(len(shape)):
            axes = [a for a, d in enumerate(dims) if d == dim]
            lists = [list(range(shape[dim]))]
            for axis in reversed(axes) if inner_first else axes:
                placement = self.placement(dim, lists, sizes[axis], is_source)
                side["placements"][axis] = placement
                lists = [part for items in lists for part in spec_module.split(placement, items, sizes[axis])]
            side.setdefault("_longest", []).append(max(map(len, lists)))
        longest = side.pop("_longest", [])
        if self.chance(0.3):
            side["order"] = self.rng.sample(range(len(shape)), len(shape))
        if self.chance(0.25):
            side["pad_to"] = [n + self.rng.choice([0, 0, 1, 3]) for n in longest]
        return side

    def placement(self, dim, lists, parts, is_source):
        """One that fits every one of the lists it splits."""
        lengths = set(map(len, lists))
        kinds = ["chunk", "chunk", "default", "balanced", "block", "table", "cuts"]
        if all(n % parts == 0 for n in lengths):
            kinds += ["even", "even"]
        kind = self.rng.choice(kinds)
        if len(lengths) > 1 and (kind == "cuts" or (kind == "table" and is_source)):
            kind = "chunk"
        placement = {"shard": dim}
        if kind in spec_module.RULES:
            placement["rule"] = kind
        elif kind == "block":
            placement["block"] = self.rng.choice([1, 1, 2, 3, 5, 1000])
        elif kind == "cuts":
            (length,) = lengths
            inner = sorted(self.rng.randint(0, length) for _ in range(parts - 1))
            placement["cuts"] = [0] + inner + [length]
        elif kind == "table":
            placement["table"] = self.table(min(lengths), parts, is_source)
        return placement

    def table(self, length, parts, is_source):
        """At the source every index stands somewhere; at the destination anything goes."""
        rows = [[] for _ in range(parts)]
        runs = list(itertools.pairwise(sorted({0, length} | {self.rng.randint(0, length) for _ in range(4)})))
        pieces = [list(range(a, b)) for a, b in runs] if self.chance(0.5) else [[i] for i in range(length)]
        self.rng.shuffle(pieces)
        for piece in pieces:
            copies = self.rng.choice([1, 1, 1, 1, 2, 3]) if is_source else self.rng.choice([0, 1, 1, 1, 2, 3])
            for _ in range(copies):
                self.rng.choice(rows).extend(piece)
        return [self.entries(row) for row in rows]

    def entries(self, row):
        """A row of indices, some ascending runs of it written as ranges."""
        out = []
        for i in row:
            if out and isinstance(out[-1], list) and out[-1][1] == i and self.chance(0.9):
                out[-1][1] = i + 1
            else:
                out.append([i, i + 1] if self.chance(0.7) else i)
        return out


def generate(seed, max_ranks=16, max_elements=3000):
    return Generator(seed, max_ranks, max_elements).spec()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", default="0")
    parser.add_argument("--max-ranks", type=int, default=16)
    parser.add_argument("--invalid", action="store_true")
    args = parser.parse_args()
    if args.invalid:
        import broken_specs
        broken = [{"kind": k, "words": w, "text": t.decode("utf-8", "replace")} for k, w, t in broken_specs.cases()]
        json.dump(broken, sys.stdout, indent=1)
    else:
        json.dump(generate(args.seed, args.max_ranks), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
