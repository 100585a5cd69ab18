# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""A recording: which box of which checkpoint tensor lies where in which parameter of one worker. No vLLM is needed."""
import dataclasses
import re
from collections.abc import Collection, Iterable

import torch

from reshard.vllm import boxes
from reshard.vllm.boxes import NotABox, View
from reshard.vllm.recorder import RecordingError
from reshard.vllm.space import Computed, Space, Tensor

# A tensor of all experts by the name that one expert's has: "mlp.experts.up_proj.weight". Tensors that files themselves
# hold for all experts at once have no such end: "mlp.experts.gate_up_proj".
STACKED = re.compile(r"\.experts\.(?!\d)\w+\.\w+$")


@dataclasses.dataclass(frozen=True)
class CheckpointTensor:
    """A tensor of the trainer's layout. Of experts that files hold one by one the layout has one tensor, expert first."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    is_turned: bool = False  # files have its last two dims the other way around

    @property
    def is_stacked(self) -> bool:
        return STACKED.search(self.name) is not None

    def files(self, source: torch.Tensor, experts: Collection[int] | None = None) -> Iterable[tuple[str, torch.Tensor]]:
        """Names and tensors as a checkpoint's files have them, as views of `source`; experts: only these, None: all."""
        if not self.is_stacked:
            yield self.name, source.transpose(-1, -2) if self.is_turned else source
            return
        before, after = self.name.split(".experts.")
        for expert, tensor in enumerate(source.unbind()):
            if experts is None or expert in experts:
                yield f"{before}.experts.{expert}.{after}", tensor


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Elements [begin, begin + shape) of a tensor in a parameter's memory, in elements from the parameter's begin.

    With is_zero: memory of this shape that is filled with zeros; `tensor` is one that lies in the same parameter.
    """

    tensor: str
    begin: tuple[int, ...]
    shape: tuple[int, ...]
    offset: int
    strides: tuple[int, ...]
    is_zero: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """Memory that loaders fill: a parameter or buffer of the model, in the format of checkpoints."""

    name: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size_bytes(self) -> int:
        last = sum((extent - 1) * stride for extent, stride in zip(self.shape, self.strides))
        return 0 if 0 in self.shape else (last + 1) * self.dtype.itemsize


@dataclasses.dataclass
class Recording:
    """What one worker holds: its parameters, and of each the blocks that cover it exactly."""

    parameters: dict[str, Parameter] = dataclasses.field(default_factory=dict)
    blocks: dict[str, list[Block]] = dataclasses.field(default_factory=dict)

    def tensors(self) -> set[str]:
        return {block.tensor for blocks in self.blocks.values() for block in blocks}


def blocks_of(name: str, space: Space, is_complete: bool) -> list[Block]:
    """The blocks of a parameter that was recorded. Errors: RecordingError names it, and what is computed or missing.

    is_complete: every element must have been written; else what was not is left as it is.
    """
    found, zeros, besides = [], [], [space.beside]
    pieces = space.settled()
    missing = space.num_elements - sum(piece.num_elements for piece in pieces)
    if missing and is_complete:
        raise RecordingError(f"{name} cannot be recorded: {missing} of its {space.num_elements} elements are filled by no "
                             "tensor of the trainer")
    for piece in pieces:
        place = View(sum(b * s for b, s in zip(piece.begin, space.strides)), piece.shape, space.strides)
        if isinstance(piece.origin, Computed):
            raise RecordingError(f"{name} cannot be recorded: its loader puts {piece.origin.how} there")
        if isinstance(piece.origin, Tensor):
            found += _data_blocks(name, piece.origin, View(piece.offset, piece.shape, piece.strides), place)
        else:
            zeros.append(place)
            besides.append(piece.origin.beside)
    merged = merge(found)
    if not zeros:
        return merged
    beside = next((tensor for tensor in besides if tensor is not None), None)
    if merged:
        tensor, dims = merged[0].tensor, len(merged[0].begin)
    elif beside is not None:
        tensor, dims = beside.name, len(beside.shape)
    else:
        raise RecordingError(f"{name} cannot be recorded: its loader puts nothing but zeros there")
    return merged + [_zero_block(tensor, dims, place) for place in zeros]


def _data_blocks(name: str, origin: Tensor, theirs: View, place: View) -> list[Block]:
    try:
        cut = boxes.cut(origin.shape, theirs, place)
    except NotABox as error:
        raise RecordingError(f"{name} cannot be recorded: what it has of {origin.name} {error}") from None
    return [Block(origin.name, box.begin, box.shape, box.offset, box.strides) for box in cut]


def _zero_block(tensor: str, dims: int, place: View) -> Block:
    """Padding belongs to a tensor, of whose number of dims its own is."""
    own = [(n, s) for n, s in zip(place.shape, place.strides) if n > 1]
    while len(own) > dims:  # a dense end joins
        (outer, outer_stride), (inner, stride) = own[-2:]
        if outer_stride != inner * stride:
            raise RecordingError(f"{tensor}: padding beside it has more dims than it")
        own[-2:] = [(outer * inner, stride)]
    own = [(1, 0)] * (dims - len(own)) + own
    return Block(tensor, (0,) * dims, tuple(n for n, _ in own), place.offset, tuple(s for _, s in own), True)


def merge(blocks: list[Block]) -> list[Block]:
    """Joins boxes that follow each other along the first dim, as the experts of one tensor do."""
    merged: list[Block] = []
    for block in sorted(blocks, key=lambda block: (block.tensor, block.begin[1:], block.shape[1:], block.begin[:1],
                                                   block.offset)):
        last = merged[-1] if merged else None
        joined = last and _joined(last, block)
        if joined:
            merged[-1] = joined
        else:
            merged.append(block)
    return merged


def _joined(last: Block, block: Block) -> Block | None:
    if (not block.begin or last.tensor != block.tensor or last.begin[1:] != block.begin[1:]
            or last.shape[1:] != block.shape[1:] or last.strides[1:] != block.strides[1:]
            or last.begin[0] + last.shape[0] != block.begin[0] or block.offset <= last.offset):
        return None
    step, rest = divmod(block.offset - last.offset, last.shape[0])
    if rest or (last.shape[0] > 1 and step != last.strides[0]) or (block.shape[0] > 1 and step != block.strides[0]):
        return None
    return Block(last.tensor, last.begin, (last.shape[0] + block.shape[0], *last.shape[1:]), last.offset,
                 (step, *last.strides[1:]))
