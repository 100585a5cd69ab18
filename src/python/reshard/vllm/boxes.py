# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Strided views as boxes of index space: what a copy from one view of memory to another moves, box by box.

A loader copies a view of a checkpoint tensor into a view of a parameter. Both views are (offset, shape, strides) in
elements of a storage; a layout wants boxes of the checkpoint tensor's indices. `cut` translates: a view may be any mix
of slices, permutations, and reshapes that split or join dimensions, and becomes as few boxes as its strides allow.
"""
import dataclasses
import itertools
import math
from collections.abc import Sequence

# A view that falls into more boxes than this is not worth a plan: a copy of single elements, most likely.
MAX_BOXES = 1 << 16


class NotABox(ValueError):
    """A view whose elements are no boxes of the tensor, e.g. a diagonal."""


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """Elements of a storage: that at index i lies at offset + sum(i * strides). All in elements."""

    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True, slots=True)
class Box:
    """Indices [begin, begin + shape) of a tensor, and where the other side of the copy has them, in elements."""

    begin: tuple[int, ...]
    shape: tuple[int, ...]
    offset: int
    strides: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides, in elements."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


def cut(shape: tuple[int, ...], ours: View, other: View) -> list[Box]:
    """The view `ours` of a dense tensor of this shape as boxes, each with its place in the view `other`.

    Both views have the same shape. Raises NotABox.
    """
    if ours.num_elements == 0:
        return []
    strides = dense_strides(shape)
    if ours.strides == strides and len(ours.shape) == len(shape):
        whole = _aligned(shape, strides, ours, other)
        if whole:
            return [whole]
    begin = _unravel(ours.offset, shape, strides)
    runs = _runs(shape, strides, begin, ours, other)
    return _boxes(begin, runs, other.offset)


def _aligned(shape: tuple[int, ...], strides: tuple[int, ...], ours: View, other: View) -> Box | None:
    """The commonest view, by slices alone, without more ado."""
    begin = _unravel(ours.offset, shape, strides)
    if any(b + n > extent for b, n, extent in zip(begin, ours.shape, shape)):
        return None
    return Box(tuple(begin), ours.shape, other.offset, other.strides)


def _unravel(offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> list[int]:
    begin = []
    for extent, stride in zip(shape, strides):
        index = offset // stride if extent > 1 else 0
        begin.append(index)
        offset -= index * stride
    if offset:
        raise NotABox("begins behind the tensor's end")
    return begin


@dataclasses.dataclass(slots=True)
class _Run:
    """count steps of `step` indices along dim `dim` of the tensor; each is `stride` elements on the other side."""

    count: int
    dim: int
    step: int
    stride: int


def _runs(shape: tuple[int, ...], strides: tuple[int, ...], begin: list[int], ours: View,
          other: View) -> list[list[_Run]]:
    """Per dim of the tensor the runs along it, shortest step first; views that cross a dim's border are split."""
    runs: list[list[_Run]] = [[] for _ in shape]
    # The widest steps first: what they leave of a dimension is what the narrower ones may run through.
    pending = sorted(((n, s, d) for n, s, d in zip(ours.shape, ours.strides, other.strides) if n > 1),
                     key=lambda item: item[1])
    while pending:
        count, ours_step, stride = pending.pop()
        dim = _dim_of(shape, strides, ours_step)
        step = ours_step // strides[dim]
        room = shape[dim] - begin[dim]
        if step and (count - 1) * step >= room:  # it goes on in the next dim: split where that begins
            inside = shape[dim] // step
            if begin[dim] >= step or shape[dim] % step or inside < 2 or count % inside:
                raise NotABox("crosses the rows of the tensor in the middle")
            pending.append((count // inside, ours_step * inside, stride * inside))
            pending.append((inside, ours_step, stride))
            pending.sort(key=lambda item: item[1])
            continue
        runs[dim].append(_Run(count, dim, step, stride))
    for dim, along in enumerate(runs):
        along.sort(key=lambda run: run.step)
        if begin[dim] + sum((run.count - 1) * run.step for run in along) >= max(1, shape[dim]):
            raise NotABox("crosses the rows of the tensor in the middle")
        _join(along)
    return runs


def _dim_of(shape: tuple[int, ...], strides: tuple[int, ...], step: int) -> int:
    """The dim along which a step goes: the outermost whose stride divides it. A step of 0 repeats; any dim will do."""
    if step == 0:
        return len(shape) - 1 if shape else _refuse("repeats a scalar")
    for dim, (extent, stride) in enumerate(zip(shape, strides)):
        if extent > 1 and stride <= step:
            if step % stride:
                raise NotABox("goes diagonally through the tensor")
            return dim
    return _refuse("leaves the tensor")


def _refuse(why: str) -> int:
    raise NotABox(why)


def _join(along: list[_Run]) -> None:
    """Joins a run with the next when it goes on where that ends, on both sides."""
    index = 0
    while index + 1 < len(along):
        run, after = along[index], along[index + 1]
        if run.step and after.step == run.step * run.count and after.stride == run.stride * run.count:
            run.count *= after.count
            del along[index + 1]
        else:
            index += 1


def _boxes(begin: list[int], runs: list[list[_Run]], offset: int) -> list[Box]:
    """Runs of step 1 are a box's extents; the steps of all others are boxes of their own."""
    shape, strides, apart = [1] * len(begin), [0] * len(begin), []
    for dim, along in enumerate(runs):
        for run in along:
            if run.step == 1 and shape[dim] == 1:
                shape[dim], strides[dim] = run.count, run.stride
            else:
                apart.append(run)
    if math.prod(run.count for run in apart) > MAX_BOXES:
        raise NotABox(f"falls into more than {MAX_BOXES} boxes")
    found = []
    for steps in itertools.product(*(range(run.count) for run in apart)):
        first, place = list(begin), offset
        for run, step in zip(apart, steps):
            first[run.dim] += step * run.step
            place += step * run.stride
        found.append(Box(tuple(first), tuple(shape), place, tuple(strides)))
    return found


def overlap(begin: Sequence[int], shape: Sequence[int], other_begin: Sequence[int], other_shape: Sequence[int]) -> bool:
    """Whether two boxes of one index space share an element."""
    return all(b < ob + on and ob < b + n for b, n, ob, on in zip(begin, shape, other_begin, other_shape))


def subtract(begin: tuple[int, ...], shape: tuple[int, ...], other_begin: tuple[int, ...],
             other_shape: tuple[int, ...]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """What of a box lies outside another, as at most two boxes for each dim."""
    if not overlap(begin, shape, other_begin, other_shape):
        return [(begin, shape)]
    rest, low, high = [], list(begin), [b + n for b, n in zip(begin, shape)]
    for dim, (ob, on) in enumerate(zip(other_begin, other_shape)):
        for first, last in ((low[dim], min(ob, high[dim])), (max(ob + on, low[dim]), high[dim])):
            if first < last:
                rest.append((tuple(low[:dim] + [first] + low[dim + 1:]),
                             tuple(h - l for l, h in zip(low[:dim], high[:dim])) + (last - first,) +
                             tuple(h - l for l, h in zip(low[dim + 1:], high[dim + 1:]))))
        low[dim], high[dim] = max(low[dim], ob), min(high[dim], ob + on)
    return rest
