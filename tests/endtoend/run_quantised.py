#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Random transfers that quantise or dequantise, against formulas of numpy, every byte.

usage: run_quantised.py --library LIBRESHARD.SO [--memory host|cuda] [--driver D] [--seed N] [--cases N]

Each case is one weight, its scales and an ordinary tensor beside them, in the general JSON form, cut at random borders:
multiples of the blocks on one side, on both, or on neither, sizes that divide nothing. Where it is to be converted follows
from the borders here, and the plan's report must say the same; where it cannot be converted, the plan must be refused.
"""
import argparse
import json
import random
import sys

import numpy as np

import capi
import quantised

KINDS = ["block128", "mxfp8", "block128", "mxfp8", "channel", "tensor"]
WIDE = {"bf16": np.uint16, "f32": np.float32}


def cuts_of(rng, extent, parts, block):
    """Borders of `parts` pieces; multiples of the block where there is one."""
    places = [min(extent, block * k) for k in range(-(-extent // block) + 1)]
    return [0] + sorted(rng.choice(places) for _ in range(parts - 1)) + [extent]


class Cut:
    """A tensor cut along some dims over a mesh, one axis a dim, and replicated over another axis."""

    def __init__(self, ranks, replicas, cuts):
        self.ranks, self.replicas, self.cuts = ranks, replicas, cuts  # cuts: {dim: borders}

    def spec(self, dtype, scales=None):
        axes = [[f"dim{d}", len(c) - 1] for d, c in self.cuts.items()] + [["copy", self.replicas]]
        rules = [{"shard": d, "cuts": c} for d, c in self.cuts.items()] + ["replicate"]
        side = {"dtype": dtype, "mesh": {"axes": axes, "ranks": self.ranks}, "placements": rules}
        if scales:
            side["scales"] = scales
        return side

    def piece(self, array, rank):
        """What the rank holds; None where it is not of the mesh."""
        if rank not in self.ranks:
            return None
        sizes = [len(c) - 1 for c in self.cuts.values()]
        place = np.unravel_index(self.ranks.index(rank), sizes + [self.replicas])
        for (d, borders), k in zip(self.cuts.items(), place):
            array = array[(slice(None),) * d + (slice(borders[k], borders[k + 1]),)]
        return np.ascontiguousarray(array)

    def first_cut_block(self, shape, block):
        return next((d for d, borders in self.cuts.items() for b in borders if b % block[d] and b != shape[d]), None)

    def beside(self, shape, block, num_dims):
        """The cut of scales that follows from that of their elements, outward where blocks are cut."""
        return Cut(self.ranks, self.replicas,
                   {d: None if d >= num_dims else [b // block[d] if b != shape[d] else -(-b // block[d]) for b in borders]
                    for d, borders in self.cuts.items()})

    def whole(self):
        return Cut(self.ranks, len(self.ranks), {})


def random_cut(rng, num_ranks, shape, block):
    """Two dims at most; of every third one all borders are multiples of the block."""
    dims = rng.sample(range(len(shape)), min(len(shape), rng.choice([0, 1, 1, 2])))
    is_aligned = rng.random() < 0.5
    cuts, size = {}, 1
    for d in dims:
        parts = rng.choice([1, 2, 3])
        if size * parts > num_ranks:
            parts = 1
        size *= parts
        cuts[d] = cuts_of(rng, shape[d], parts, block[d] if is_aligned else 1)
    replicas = rng.choice([1, 1, 2]) if size * 2 <= num_ranks else 1
    return Cut(rng.sample(range(num_ranks), size * replicas), replicas, cuts)


class Case:
    def __init__(self, rng):
        self.rng, self.numbers = rng, np.random.default_rng(rng.randrange(1 << 32))
        self.num_ranks = rng.randint(2, 6)
        self.is_quantising = rng.random() < 0.7
        self.kind = rng.choice(KINDS)
        self.is_given = not self.is_quantising or self.kind in ("channel", "tensor") or rng.random() < 0.2
        self.shape = [rng.randint(1, 3)] * rng.choice([0, 0, 1]) + [rng.randint(1, 420), rng.randint(1, 300)]
        self.scale_shape = quantised.scale_shape(self.kind, self.shape, rng)
        self.block = quantised.block_of(self.kind, self.shape, self.scale_shape)
        self.wide = rng.choice(list(WIDE))
        self.src = random_cut(rng, self.num_ranks, self.shape, self.block)
        self.dst = random_cut(rng, self.num_ranks, self.shape, self.block)
        self.scale_dtype = "f8_e8m0" if self.kind == "mxfp8" else "f32"
        self.make_values()
        self.place_scales()

    # ------------------------------------------------------------------------------------------------ what is held

    def random_values(self):
        """Blocks of all magnitudes, zeros among them."""
        values = self.numbers.standard_normal(self.shape) * 10.0 ** self.numbers.uniform(-6, 4, self.shape[:-1] + [1])
        values[self.numbers.random(self.shape) < 0.1] = 0
        if self.rng.random() < 0.3:
            values[..., : self.shape[-2] // 2, :] = 0
        values = values.astype(np.float32)
        return values if self.wide == "f32" else quantised.bf16_to(quantised.bf16_from(values))

    def in_wide(self, values):
        return values if self.wide == "f32" else quantised.bf16_from(values)

    def make_values(self):
        if self.is_given:
            if self.kind == "mxfp8":
                self.scales = self.numbers.integers(110, 140, self.scale_shape, dtype=np.uint8)
            else:
                self.scales = (10.0 ** self.numbers.uniform(-5, 2, self.scale_shape)).astype(np.float32)
            self.scales = np.asarray(self.scales)
        if not self.is_quantising:
            codes = self.numbers.integers(0, 0x7f, self.shape, dtype=np.uint8)
            self.held = codes | self.numbers.choice(np.array([0, 0x80], np.uint8), self.shape)
            self.wanted = self.in_wide(quantised.dequantise(self.held, self.scales, self.block))
            return
        values = self.random_values()
        if not self.is_given:
            self.scales = quantised.computed_scales(self.kind, values, self.block)
        self.held = self.in_wide(values)
        self.wanted = quantised.quantise(values, self.scales, self.block)

    # ---------------------------------------------------------------------------------------- where it is converted

    def beside(self, cut):
        """Scales beside their elements, cut like them where that is possible, else all of them on each rank."""
        num_dims = len(self.scale_shape)
        can = cut.first_cut_block(self.shape, self.block) is None and all(d < num_dims for d in cut.cuts)
        return cut.beside(self.shape, self.block, num_dims) if can and self.rng.random() < 0.7 else cut.whole()

    def place_scales(self):
        self.src_scales = self.dst_scales = None
        src_cut, dst_cut = (cut.first_cut_block(self.shape, self.block) for cut in (self.src, self.dst))
        self.place, self.refusal = "source", None
        if not self.is_quantising:
            self.place = "destination"
            self.src_scales = self.beside(self.src)
            if self.rng.random() < 0.3:  # the destination may want them, too
                self.dst_scales = self.beside(self.dst)
        elif self.is_given:
            self.src_scales, self.dst_scales = self.beside(self.src), self.beside(self.dst)
            if self.rng.random() < 0.4 and len(set(self.src.ranks)) > 1 and 0 not in self.scale_shape:
                self.src_scales = Cut(self.src.ranks[:1], 1, {})  # one rank has all of them
                others = [self.src.piece(self.held, rank).size for rank in self.src.ranks[1:]]
                self.place = "destination" if any(others) else "source"
        else:
            self.place = "source" if src_cut is None else "destination"
            self.dst_scales = self.dst.beside(self.shape, self.block, len(self.shape)) if dst_cut is None \
                else self.dst.whole()
            if self.place == "source" and self.rng.random() < 0.5:
                self.dst_scales = self.dst.whole()
            if src_cut is not None and dst_cut is not None:
                self.refusal = "no side can compute the scales"

    def spec(self):
        weight = {"name": "w", "shape": self.shape, "group": 1}
        scales = {"name": "w_scale", "shape": self.scale_shape, "group": 1}
        named = {"kind": self.kind, "tensor": "w_scale"}
        narrow, wide = ("dst", "src") if self.is_quantising else ("src", "dst")
        weight[narrow] = getattr(self, narrow).spec("f8_e4m3", named)
        weight[wide] = getattr(self, wide).spec(self.wide)
        for side in ("src", "dst"):
            if getattr(self, side + "_scales"):
                scales[side] = getattr(self, side + "_scales").spec(self.scale_dtype)
        plain = {"name": "plain", "shape": [7, 5], "group": 2, "src": self.src.whole().spec("f32"),
                 "dst": self.dst.whole().spec("f32")}
        return {"version": 1, "ranks": self.num_ranks, "tensors": [scales, plain, weight]}

    def arrays(self):
        """(name, cut and contents at the source, cut and contents at the destination)"""
        plain = np.arange(35, dtype=np.float32).reshape(7, 5)
        yield "w", (self.src, self.held), (self.dst, self.wanted)
        yield "w_scale", (self.src_scales, self.scales), (self.dst_scales, self.scales)
        yield "plain", (self.src.whole(), plain), (self.dst.whole(), plain)

    def line(self):
        what = "quantise" if self.is_quantising else "dequantise"
        return (f"{what} {self.kind}{' given' if self.is_given else ''} {self.wide} {self.shape}, src {self.src.cuts} on "
                f"{self.src.ranks}, dst {self.dst.cuts} on {self.dst.ranks}: at the {self.place}")


def run_case(library, case):
    try:
        src, dst = library.layouts_of_spec(case.spec())
        plan = library.plan(src, dst)
    except capi.Failure as failure:
        is_meant = case.refusal is not None and case.refusal in str(failure)
        return [] if is_meant else [str(failure)]
    if case.refusal is not None:
        return ["the plan is not refused"]
    problems = []
    report = library.report(plan)
    if [entry["place"] for entry in report["quantised"]] != [case.place]:
        problems.append(f"the report says {report['quantised']}")
    held, wanted, memories = [], [], []
    for rank in range(case.num_ranks):
        content = {}
        for name, of_src, of_dst in case.arrays():
            for side, (cut, array) in (("src", of_src), ("dst", of_dst)):
                piece = cut.piece(array, rank) if cut else None
                if piece is not None and piece.size > 0:
                    content[side, name] = piece
        held.append({number: content["src", name] for number, name, size in library.buffers(src, rank) if size > 0})
        wanted.append({number: (name, content["dst", name]) for number, name, size in library.buffers(dst, rank) if size > 0})
        poisoned = {number: np.full(array.nbytes, 0xA5, np.uint8) for number, (_, array) in wanted[rank].items()}
        memories.append((held[rank], poisoned))
    library.run_plan(plan, memories)
    for rank in range(case.num_ranks):
        for number, (name, array) in wanted[rank].items():
            found = memories[rank][1][number].view(array.dtype).reshape(array.shape)
            if found.tobytes() != array.tobytes():
                bits = [np.ascontiguousarray(a).view(np.dtype(f"u{a.dtype.itemsize}")) for a in (found, array)]
                wrong = np.argwhere(bits[0] != bits[1])
                place = tuple(wrong[0])
                problems.append(f"rank {rank}, {name}: {len(wrong)} of {array.size} wrong, the first at {place}: "
                                f"{found[place]}, not {array[place]}")
    for handle in (src, dst):
        library.dll.reshard_layout_destroy(handle)
    library.dll.reshard_plan_destroy(plan)
    return problems


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", required=True)
    parser.add_argument("--memory", default="host", choices=["host", "cuda"], help="cuda: all ranks on the first device")
    parser.add_argument("--driver", default="auto", choices=["auto", "poll", "nccl"], help="of the bindings")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=150)
    arguments = parser.parse_args()
    agrees = quantised.check_against_ml_dtypes(np.random.default_rng(arguments.seed))
    print("the formulas of numpy and ml_dtypes " + {None: "were not compared: ml_dtypes is not installed",
                                                   True: "agree", False: "DIFFER"}[agrees])
    library = capi.Library(arguments.library, arguments.memory == "cuda", arguments.driver)
    failed, places = int(agrees is False), {}
    for number in range(arguments.cases):
        case = Case(random.Random(arguments.seed * 1000003 + number))
        key = "refused" if case.refusal else f"at the {case.place}"
        places[key] = places.get(key, 0) + 1
        problems = run_case(library, case)
        if problems:
            failed += 1
            print(f"case {number}: {case.line()}\n  " + "\n  ".join(problems[:5]))
    print(f"seed {arguments.seed}: {arguments.cases} transfers that convert ({places}), {failed} failed")
    sys.exit(bool(failed) or len(places) < 3)


if __name__ == "__main__":
    main()
