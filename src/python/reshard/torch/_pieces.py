# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What one rank holds of tensors, from torch tensors: boxes of elements at addresses, without a copy of any."""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Mapping, NamedTuple, Sequence

import torch
from torch.distributed.tensor import DTensor

from .._builder import LayoutBuilder
from .._dtypes import dtype_name
from .._errors import InvalidArgument, NotSupported
from .._layout import Layout
from .._memory import Memory
from . import _placements

GroupOf = Callable[[str], int]


class Piece(NamedTuple):
    """A box of a tensor, in elements, or a range [start, start + shape) of the flattened tensor; offset_bytes from the
    beginning of the storage."""
    start: tuple[int, ...]
    shape: tuple[int, ...]
    offset_bytes: int
    strides_bytes: tuple[int, ...]
    is_flat: bool = False


@dataclass
class Held:
    """A rank's part of one tensor. shape: global. storage: where all pieces lie; kept alive. An empty part has no pieces."""
    name: str
    shape: tuple[int, ...]
    dtype: str
    storage: torch.Tensor
    pieces: list[Piece] = field(default_factory=list)

    def key(self) -> tuple[Any, ...]:
        """Equal where the same elements lie at the same addresses."""
        return self.name, self.shape, self.dtype, self.storage.untyped_storage().data_ptr(), tuple(self.pieces)


@dataclass(frozen=True)
class Local:
    """A plain tensor that is this rank's part of a larger one. The state of a rank may have these in place of tensors.

    tensor: the local part. shape: of the whole. Where it lies, either start: its first index per dimension; or mesh and
    placements: a DeviceMesh and torch's placements on it.
    """
    tensor: torch.Tensor
    shape: Sequence[int]
    start: Sequence[int] | None = None
    mesh: Any = None
    placements: Sequence[Any] | None = None


def layer_of(name: str) -> int:
    """The default completion group of a tensor: one more than the first number between dots in its name, as in
    "model.layers.7.mlp.weight"; 0 without one."""
    found = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
    return int(found.group(1)) + 1 if found else 0


def held_of(name: str, value: Any, is_fsdp2: bool = False) -> Held | None:
    """What this rank holds of the tensor `name`: of a DTensor, a Local, or a plain tensor, which is whole on this rank.
    None where a mesh does not have this rank. is_fsdp2: it is a parameter of fully_shard."""
    if isinstance(value, Local):
        if (value.start is None) == (value.mesh is None):
            raise InvalidArgument(f"tensor {name!r}: Local takes either start, or mesh and placements")
        if value.start is not None:
            box = _placements.Box(tuple(value.start), tuple(value.tensor.shape), (0,) * value.tensor.dim())
            return strided_held(name, tuple(value.shape), value.tensor, [box])
        dims = held_on_mesh(name, value.tensor, value.shape, value.mesh, value.placements or (), None, is_fsdp2)
        return None if dims is None else strided_held(name, tuple(value.shape), value.tensor, _placements.boxes(dims))
    if isinstance(value, DTensor):
        local, spec = value._local_tensor, value._spec
        order = getattr(spec, "shard_order", None)
        dims = held_on_mesh(name, local, value.shape, value.device_mesh, value.placements, order, is_fsdp2)
        return None if dims is None else strided_held(name, tuple(value.shape), local, _placements.boxes(dims))
    if not isinstance(value, torch.Tensor):
        raise InvalidArgument(f"{name!r} is a {type(value).__name__}; give tensors, DTensors or reshard.torch.Local")
    box = _placements.Box((0,) * value.dim(), tuple(value.shape), (0,) * value.dim())
    return strided_held(name, tuple(value.shape), value, [box])


def held_on_mesh(name: str, local: torch.Tensor, shape: Sequence[int], mesh: Any, placements: Sequence[Any],
                 shard_order: Any, is_fsdp2: bool) -> list[_placements.Ranges] | None:
    """The ranges per dimension that the local tensor holds; None where the mesh does not have this rank.

    A _StridedShard says left to right what FSDP2 does right to left; with uneven sizes the two differ, and the local
    tensor's shape shows which one it is.
    """
    coordinate = mesh.get_coordinate()
    if coordinate is None:
        return None
    sizes = [mesh.size(axis) for axis in range(mesh.ndim)]
    if len(placements) != mesh.ndim:
        raise InvalidArgument(f"tensor {name!r}: {len(placements)} placements on a mesh of {mesh.ndim} axes")
    ways = [(placements, _placements.axis_order(placements, shard_order))]
    other = _placements.tensor_parallel_first(placements, sizes)
    if other is not None:
        ways.insert(0 if is_fsdp2 else 1, other)
    for given, order in ways:
        try:
            dims = _placements.held(shape, given, sizes, coordinate, order)
        except (InvalidArgument, NotSupported) as problem:
            raise type(problem)(f"tensor {name!r}: {problem}") from None
        if [_placements.length(ranges) for ranges in dims] == list(local.shape):
            return dims
    raise InvalidArgument(f"tensor {name!r} of shape {tuple(shape)}: the local tensor of shape {tuple(local.shape)} is not "
                          f"what {tuple(placements)} leaves at {coordinate} of a mesh of {sizes}")


def strided_held(name: str, shape: tuple[int, ...], local: torch.Tensor, boxes: Iterable[_placements.Box]) -> Held:
    """The boxes of a local tensor of any strides."""
    if local.layout != torch.strided or local.device.type == "meta":
        raise NotSupported(f"tensor {name!r} is {local.layout} on {local.device}; only strided tensors with memory move")
    size_bytes = local.element_size()
    origin, strides = int(local.storage_offset()) * size_bytes, [stride * size_bytes for stride in local.stride()]
    pieces = [Piece(box.start, box.shape, origin + sum(at * stride for at, stride in zip(box.local_start, strides)),
                    tuple(strides)) for box in boxes if 0 not in box.shape]
    return Held(name, shape, dtype_name(local.dtype), local, pieces)


def without_ties(held: Iterable[Held], source: Layout) -> list[Held]:
    """One name for memory that has several, as tied weights have, since a destination is written once: the first that the
    source has, else the first."""
    kept: dict[Any, Held] = {}
    for one in held:
        key = one.key()[1:] if one.pieces else one.name
        if key not in kept or (source.find(kept[key].name) is None and source.find(one.name) is not None):
            kept[key] = one
    return list(kept.values())


def memory_of_storage(tensor: torch.Tensor) -> Memory:
    """All of a tensor's storage; the tensor is kept alive."""
    storage = tensor.untyped_storage()
    device = tensor.device.index if tensor.device.type == "cuda" else None
    if tensor.device.type not in ("cpu", "cuda"):
        raise NotSupported(f"memory of {tensor.device} cannot be bound; it must be of the host or of a CUDA device")
    return Memory(storage.data_ptr(), storage.nbytes(), device, True, tensor)


def local_layout(held: Iterable[Held], rank: int, num_ranks: int,
                 group_of: GroupOf = layer_of) -> tuple[Layout, dict[str, Memory]]:
    """(the layout of this rank alone, its memory by buffer name). A storage is one buffer, named as the first tensor in
    it, so that tensors that share one, as views of a fused weight or tied weights do, need no care."""
    builder = LayoutBuilder(num_ranks)
    names: dict[int, str] = {}
    memories: dict[str, Memory] = {}
    for one in held:
        builder.tensor(one.name, one.shape, one.dtype, group_of(one.name))
        if not one.pieces:
            continue
        address = one.storage.untyped_storage().data_ptr()
        buffer = names.setdefault(address, one.name)
        if buffer not in memories:
            memories[buffer] = memory_of_storage(one.storage)
        for piece in one.pieces:
            if piece.is_flat:
                builder.flat_range(one.name, rank, buffer, piece.start[0], piece.start[0] + piece.shape[0],
                                   offset_bytes=piece.offset_bytes)
            else:
                builder.block(one.name, rank, buffer, piece.start, piece.shape, offset_bytes=piece.offset_bytes,
                              strides_bytes=piece.strides_bytes)
    return builder.build(), memories


def held_of_state(state: Mapping[str, Any]) -> list[Held]:
    """What this rank holds of a state dict."""
    found = (held_of(name, value) for name, value in state.items())
    return [one for one in found if one is not None]
