# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""A Megatron module as one rank's part of a reshard layout, and the memory that is bound for it."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import reshard
from reshard import _collector
from reshard._comm import agree

from .metadata import Description, Piece, describe, span
from .names import MegatronNames, Names, Part


@dataclass(frozen=True)
class Side:
    """One side of a transfer: what all ranks hold, and this rank's memory of it, by buffer name."""

    layout: reshard.Layout
    buffers: dict[str, reshard.Memory]
    tensors: dict[str, Any]  # the module's own parameters and buffers

    def check_unmoved(self) -> None:
        """Raises reshard.InvalidState for a parameter that lies elsewhere than when it was described."""
        for name, tensor in self.tensors.items():
            if tensor.data_ptr() != self.buffers[name].ptr:
                raise reshard.InvalidState(f"{name} has moved since it was described; describe the model again")


def local_layout(model: Any, rank: int, num_ranks: int, names: Names | None = None) -> Side:
    """This rank's part alone. One buffer per parameter, named as the module names it (layers counted in the stage).

    model: a GPTModel, a list of the chunks of a virtual pipeline, wrapped or not, or None on a rank without a part.
    names: MegatronNames() unless given. The buffers are the parameters' own memory, which must stay where it is.
    Raises reshard.NotSupported and reshard.InvalidArgument, naming the parameter.
    """
    names = names or MegatronNames()
    with _collector.paused():
        description = describe(model)
        builder = reshard.LayoutBuilder(num_ranks)
        known: set[str] = set()
        for name, tensor in description.tensors.items():
            builder.buffer(rank, name, span(tensor) * tensor.element_size())
        for piece in description.pieces:
            _add(builder, rank, description, piece, names, known)
        return Side(builder.build(), {name: _memory(tensor) for name, tensor in description.tensors.items()},
                    description.tensors)


def side(model: Any, comm: reshard.Comm, names: Names | None = None, timeout: float = 60.0) -> Side:
    """The layout of all ranks of `comm`. Collective: each rank gives its own module. timeout: seconds.

    Raises, on every rank when one rank has it, as local_layout; reshard.LayoutMismatch where ranks name the same tensor
    with different shapes.
    """
    problem, local = None, None
    try:
        local = local_layout(model, comm.rank, comm.size, names)
    except Exception as error:  # whatever it is, the other ranks must not wait for this one
        problem = error
    agree(comm, problem, timeout)
    assert local is not None
    return Side(local.layout.exchange(comm, timeout), local.buffers, local.tensors)


def _add(builder: reshard.LayoutBuilder, rank: int, description: Description, piece: Piece, names: Names,
         known: set[str]) -> None:
    """Adds the blocks of one piece, and the tensors that they are of."""
    tensor = description.tensors[piece.parameter]
    parts, size_bytes = names.parts(piece), tensor.element_size()
    owner = next((part.tensor for part in parts if part.tensor), None) or _owner(piece, names)
    for part in parts:
        name, kind = (part.tensor, "data") if part.tensor else (owner, "zero")
        if name not in known:
            known.add(name)
            builder.tensor(name, names.shape(name), tensor.dtype, names.group(name, description.num_layers))
        builder.block(name, rank, piece.parameter, part.start, part.shape, offset_bytes=part.offset * size_bytes,
                      strides_bytes=[stride * size_bytes for stride in part.strides], kind=kind)


def _owner(piece: Piece, names: Names) -> str:
    """The tensor to which a piece of nothing but padding belongs: the one that the first element of its whole is of."""
    first = Piece(piece.parameter, piece.whole, piece.whole_shape, (0,) * len(piece.start), (1,) * len(piece.shape), 0,
                  (0,) * len(piece.shape))
    return next(part.tensor for part in names.parts(first) if part.tensor)


def _memory(tensor: Any) -> reshard.Memory:
    device = tensor.device.index if tensor.device.type == "cuda" else None
    return reshard.Memory(tensor.data_ptr(), span(tensor) * tensor.element_size(), device,
                          owner=tensor)
