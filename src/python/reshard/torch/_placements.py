# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Which indices of a dimension a rank of a DTensor holds, from its placements and its mesh coordinate.

A dimension is a list of half-open ranges of global indices in local order. A placement takes a part of that list, so that
placements on one dimension compose, whatever divides what. A rank's local tensor is then the product of its dimensions'
lists: one box where each has one range, several where a _StridedShard leaves gaps.
"""
from __future__ import annotations

import itertools
import math
from typing import Any, Iterator, NamedTuple, Sequence

from .._errors import InvalidArgument, NotSupported

Ranges = list[tuple[int, int]]


class Box(NamedTuple):
    """A box of global elements, and where its first lies in the local tensor."""
    start: tuple[int, ...]
    shape: tuple[int, ...]
    local_start: tuple[int, ...]


def length(ranges: Ranges) -> int:
    return sum(end - begin for begin, end in ranges)


def cut(ranges: Ranges, begin: int, end: int) -> Ranges:
    """The elements at places [begin, end) of the list."""
    found: Ranges = []
    place = 0
    for first, last in ranges:
        low, high = max(begin, place), min(end, place + last - first)
        if low < high:
            found.append((first + low - place, first + high - place))
        place += last - first
    return found


def chunk(ranges: Ranges, count: int, index: int) -> Ranges:
    """Piece `index` of torch.chunk: ceil(n / count) elements each, the last ones short or empty."""
    each = math.ceil(length(ranges) / count)
    return cut(ranges, index * each, (index + 1) * each)


def strided(ranges: Ranges, factor: int, count: int, index: int) -> Ranges:
    """_StridedShard: chunked into `factor` pieces, of each of which the coordinate has its chunk."""
    return merged([part for piece in range(factor) for part in chunk(chunk(ranges, factor, piece), count, index)])


def merged(ranges: Ranges) -> Ranges:
    """Ranges that continue each other as one."""
    found: Ranges = []
    for begin, end in ranges:
        if found and found[-1][1] == begin:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return found


def axis_order(placements: Sequence[Any], shard_order: Any) -> list[int]:
    """The mesh axes in the order in which they divide: left to right, but for what the DTensor's shard_order says."""
    order = list(range(len(placements)))
    for entry in shard_order or ():
        places = sorted(entry.mesh_dims)
        for place, axis in zip(places, entry.mesh_dims):
            order[place] = axis
    return order


def held(shape: Sequence[int], placements: Sequence[Any], sizes: Sequence[int], coordinate: Sequence[int],
         order: Sequence[int]) -> list[Ranges]:
    """For each dimension of a tensor of `shape` the ranges that the rank at `coordinate` holds.

    placements: torch's, one per mesh axis, of `sizes`. order: the axes in the order in which they divide.
    """
    dims: list[Ranges] = [[(0, extent)] if extent else [] for extent in shape]
    for axis in order:
        placement, size, index = placements[axis], sizes[axis], coordinate[axis]
        kind = type(placement).__name__
        if kind == "Replicate":
            continue
        if kind not in ("Shard", "_StridedShard"):
            raise NotSupported(f"placement {placement} on mesh axis {axis}: only Shard, _StridedShard and Replicate say "
                               "what a rank holds; redistribute the tensor first")
        dim = placement.dim + len(shape) if placement.dim < 0 else placement.dim
        if not 0 <= dim < len(shape):
            raise InvalidArgument(f"placement {placement} on mesh axis {axis}, of a tensor of {len(shape)} dimensions")
        if kind == "Shard":
            dims[dim] = chunk(dims[dim], size, index)
        else:
            dims[dim] = strided(dims[dim], int(placement.split_factor), size, index)
    return dims


def tensor_parallel_first(placements: Sequence[Any], sizes: Sequence[int]) -> tuple[list[Any], list[int]] | None:
    """(placements, order) in which FSDP2 over tensor parallelism divides: the axes to the right first, then, by plain
    chunks, that of each _StridedShard. It writes this as a _StridedShard, which is the same where the sizes are even,
    but not where a chunk to the right is short. None where a split factor says something else.
    """
    plain, last = list(placements), []
    for axis, placement in enumerate(placements):
        if type(placement).__name__ != "_StridedShard":
            continue
        right = [sizes[other] for other in range(axis + 1, len(placements))
                 if getattr(placements[other], "dim", None) == placement.dim]
        if math.prod(right) != placement.split_factor:
            return None
        plain[axis] = _Chunked(placement.dim)
        last.append(axis)
    return plain, [axis for axis in range(len(plain)) if axis not in last] + last


class _Chunked:
    """A Shard without torch."""

    def __init__(self, dim: int):
        self.dim = dim


_Chunked.__name__ = "Shard"


def boxes(dims: Sequence[Ranges]) -> Iterator[Box]:
    """The boxes that make up a local tensor, row-major."""
    for combination in itertools.product(*(_with_places(ranges) for ranges in dims)):
        yield Box(tuple(begin for begin, _, _ in combination), tuple(end - begin for begin, end, _ in combination),
                  tuple(place for _, _, place in combination))


def _with_places(ranges: Ranges) -> list[tuple[int, int, int]]:
    places = itertools.accumulate((end - begin for begin, end in ranges), initial=0)
    return [(begin, end, place) for (begin, end), place in zip(ranges, places)]
