# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What memory holds after the loaders: for each box of a parameter, the view of a checkpoint tensor that fills it."""
import dataclasses
import math
from collections.abc import Iterable, Iterator

from reshard.vllm import boxes
from reshard.vllm.boxes import View


@dataclasses.dataclass(frozen=True, slots=True)
class Computed:
    """Origin of what is no copy: `how` says what it is, e.g. "aten.exp of model.layers.0.A_log"."""

    how: str


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """Origin of a checkpoint tensor's elements. Its memory is dense."""

    name: str
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Zero:
    """Origin of padding that a loader fills with zeros; beside: the tensor that it has put them in place of."""

    beside: Tensor | None = None


Origin = Zero | Computed | Tensor
ZERO = Zero()


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """A box of a space, and what fills it: the element at begin + i is the origin's at offset + sum(i * strides)."""

    begin: tuple[int, ...]
    shape: tuple[int, ...]
    origin: Origin
    offset: int
    strides: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)

    def part(self, begin: tuple[int, ...], shape: tuple[int, ...]) -> "Piece":
        """The piece cut down to a box inside it."""
        moved = sum((new - old) * stride for new, old, stride in zip(begin, self.begin, self.strides))
        return Piece(begin, shape, self.origin, self.offset + moved, self.strides)


class Space:
    """Memory that loaders write into: a parameter, or a tensor that they make on the way to one.

    Its dims are those of the tensor in the order of their strides, widest first, so that its own memory is dense.
    """

    def __init__(self, shape: Iterable[int], strides: Iterable[int], first_offset: int = 0):
        """Shape and strides in elements; first_offset: where the tensor begins in its storage."""
        pairs = list(zip(shape, strides))
        # Stable, so that dims of equal stride (extents of 1) keep their order.
        self.order = sorted(range(len(pairs)), key=lambda dim: -pairs[dim][1])
        self.shape = tuple(pairs[dim][0] for dim in self.order)
        self.first_offset = first_offset
        dense = boxes.dense_strides(self.shape)
        if any(pairs[dim][1] != stride and extent > 1 for dim, stride, extent in zip(self.order, dense, self.shape)):
            raise boxes.NotABox(f"memory of shape {[n for n, _ in pairs]} and strides {[s for _, s in pairs]} has gaps")
        self.strides = dense
        self.pieces: list[Piece] = []
        self.beside: Tensor | None = None  # a tensor of which a loader had nothing for this memory

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)

    def _from_start(self, view: View) -> View:
        return View(view.offset - self.first_offset, view.shape, view.strides) if self.first_offset else view

    def write(self, parts: Iterable[tuple[Origin, View, View]]) -> None:
        """Writes parts: each an origin, the origin's view, and the part's view of this space's storage."""
        for origin, theirs, ours in parts:
            for box in boxes.cut(self.shape, self._from_start(ours), theirs):
                self.pieces.append(Piece(box.begin, box.shape, origin, box.offset, box.strides))

    def read(self, view: View, to: View) -> Iterator[tuple[Origin, View, View]]:
        """What a view of this space holds, each part with where it lies in `to`; what was never written is Computed."""
        for box in boxes.cut(self.shape, self._from_start(view), to):
            missing = box.num_elements
            for piece in self.settled():
                if not boxes.overlap(box.begin, box.shape, piece.begin, piece.shape):
                    continue
                begin = tuple(map(max, box.begin, piece.begin))
                end = tuple(min(b + n, pb + pn) for b, n, pb, pn in zip(box.begin, box.shape, piece.begin, piece.shape))
                shape = tuple(e - b for b, e in zip(begin, end))
                part = piece.part(begin, shape)
                place = box.offset + sum((b - first) * s for b, first, s in zip(begin, box.begin, box.strides))
                missing -= part.num_elements
                yield piece.origin, View(part.offset, shape, part.strides), View(place, shape, box.strides)
            if missing:
                yield Computed("memory that nothing was written to"), _nowhere(box), View(box.offset, box.shape,
                                                                                        box.strides)

    def settled(self) -> list[Piece]:
        """The pieces, disjoint: where several were written, the last one stays."""
        if not _any_overlap(self.pieces):
            return self.pieces
        settled: list[Piece] = []
        for piece in self.pieces:
            settled = [earlier.part(*rest) for earlier in settled
                       for rest in boxes.subtract(earlier.begin, earlier.shape, piece.begin, piece.shape)]
            settled.append(piece)
        self.pieces = settled
        return settled


def _nowhere(box: boxes.Box) -> View:
    return View(0, box.shape, (0,) * len(box.shape))


def _any_overlap(pieces: list[Piece]) -> bool:
    """Sweeps along the first dim, comparing those pieces alone that lie beside each other there."""
    if not pieces or not pieces[0].shape:
        return len(pieces) > 1
    active: list[Piece] = []
    for piece in sorted(pieces, key=lambda piece: piece.begin):
        active = [other for other in active if other.begin[0] + other.shape[0] > piece.begin[0]]
        if any(boxes.overlap(piece.begin, piece.shape, other.begin, other.shape) for other in active):
            return True
        active.append(piece)
    return False
