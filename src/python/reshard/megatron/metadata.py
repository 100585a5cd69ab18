# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What a Megatron-Core module says of its parameters, read into boxes: which part of which whole lies where in memory.

Megatron describes a parameter twice. Its attributes (`tensor_model_parallel`, `partition_dim`, `partition_stride`,
`allreduce`) are what its own `swap_model_weights` plans from; they do not say which expert a `local_experts.0` is, nor
that the halves of a grouped `weight1` are gate and up. `sharded_state_dict`, which its checkpoints are written with, says
both, numbers layers and experts globally, and names a weight alike in every kind of module (TransformerEngine or not,
experts one by one or grouped). So that is what is read here. Nothing is copied, no parameter is looked into, and no rank
talks to another.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import reshard
import torch
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class Piece:
    """One box of a whole, as it lies in the memory of one parameter of this rank."""

    parameter: str  # name within the model; with several chunks of a virtual pipeline "1.decoder..."
    whole: str  # Megatron's name in a checkpoint, e.g. "decoder.layers.5.mlp.experts.experts.linear_fc1.weight"
    whole_shape: tuple[int, ...]  # experts first; the vocabulary as Megatron padded it
    start: tuple[int, ...]  # first index in the whole, per dim
    shape: tuple[int, ...]
    offset: int  # elements from the parameter's first
    strides: tuple[int, ...]  # elements, per dim of the whole; 0 for dims that are not in memory (one expert)


@dataclass(frozen=True)
class Description:
    """All of one rank's model: its tensors by name, and their pieces in the order of the model."""

    tensors: dict[str, torch.Tensor]  # the module's parameters, and buffers that checkpoints keep
    pieces: tuple[Piece, ...]
    num_layers: int  # of the decoder, over all stages


def describe(model: Any) -> Description:
    """Reads a GPTModel, or a list of them (the chunks of a virtual pipeline), wrapped or not (DDP, Float16Module).

    `model` None describes a rank without a part in the model. The result holds views of the module's memory, so it is
    valid as long as the parameters are where they are. Raises reshard.NotSupported for what it does not know to describe.
    """
    chunks = [] if model is None else list(model) if isinstance(model, (list, tuple)) else [model]
    tensors: dict[str, torch.Tensor] = {}
    pieces: list[Piece] = []
    num_layers = 0
    for index, chunk in enumerate(map(_unwrapped, chunks)):
        prefix = f"{index}." if len(chunks) > 1 else ""
        _check_config(chunk.config)
        num_layers = chunk.config.num_layers
        entries = list(_entries(chunk))
        with _CopiesAreViews():  # once, since entering it takes longer than all that is asked within
            parts = [_parts(name, tensor, sharded) for name, tensor, sharded in entries]
        for (name, tensor, _), described in zip(entries, parts):
            found = [_piece(prefix + name, tensor, part) for part in described]
            if sum(math.prod(piece.shape) for piece in found) != tensor.numel():
                raise reshard.NotSupported(f"{name}: its pieces are not all of its {tensor.numel()} elements")
            tensors[prefix + name] = tensor
            pieces += found
    return Description(tensors, tuple(pieces), num_layers)


def _unwrapped(model: Any) -> Any:
    from megatron.core.utils import unwrap_model

    return unwrap_model(model)


def _check_config(config: Any) -> None:
    if getattr(config, "moe_mlp_glu_interleave_size", None):
        # sharded_state_dict takes the halves of such weights for gate and up, which they are not.
        raise reshard.NotSupported("moe_mlp_glu_interleave_size: rows of gate and up in turns are not described by Megatron")


def _entries(chunk: Any) -> Iterator[tuple[str, torch.Tensor, Any]]:
    """(name, its tensor in memory, what sharded_state_dict says of it)."""
    groups = chunk.pg_collection
    metadata = {"non_homogeneous_layers": True, "dp_cp_group": getattr(groups, "dp_cp", None) or groups.dp}
    sharded = chunk.sharded_state_dict(metadata=metadata)
    parameters = dict(chunk.named_parameters())
    missing = [name for name in parameters if name not in sharded]
    if missing:
        raise reshard.NotSupported(f"{missing[0]}: a parameter that Megatron's sharded_state_dict leaves out")
    buffers = dict(chunk.named_buffers())
    for name, entry in sharded.items():
        tensor = parameters.get(name, buffers.get(name))
        if tensor is None:  # an _extra_state
            continue
        if type(tensor.data) is not torch.Tensor:
            raise reshard.NotSupported(f"{name}: a {type(tensor.data).__name__}, not plain memory")
        yield name, tensor, entry


class _CopiesAreViews(TorchDispatchMode):
    """Where Megatron makes a piece contiguous for its checkpoint, hands back the piece as it lies in memory."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.clone.default:
            return torch.ops.aten.alias(args[0])
        return func(*args, **(kwargs or {}))


def _parts(name: str, tensor: torch.Tensor, sharded: Any) -> list[Any]:
    """The ShardedTensors of one entry, on a tensor without memory that has the parameter's strides."""
    if not hasattr(sharded, "build_fn"):
        return [sharded]
    shadow = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    built = sharded.build_fn(sharded.key, shadow, sharded.replica_id, None)
    parts = built if isinstance(built, list) else list(built.values()) if isinstance(built, dict) else [built]
    for part in parts:
        if part.data.untyped_storage()._cdata != shadow.untyped_storage()._cdata:
            raise reshard.NotSupported(f"{name}: a piece of it is computed for checkpoints, and lies nowhere in memory")
    return parts


def _piece(name: str, tensor: torch.Tensor, part: Any) -> Piece:
    if getattr(part, "flattened_range", None) is not None:
        raise reshard.NotSupported(f"{name}: flattened by an optimizer; describe the model, not the optimizer's state")
    data = part.data
    if data.device.type == "meta" and tensor.device.type != "meta":
        offset = data.storage_offset()
    else:
        offset = (data.data_ptr() - tensor.data_ptr()) // tensor.element_size()
        if data.numel() and not 0 <= offset < max(1, tensor.numel()):
            raise reshard.NotSupported(f"{name}: Megatron describes another memory than the parameter's")
    absent = part.prepend_axis_num  # dims in front that only the whole has: the expert
    shape = (1,) * absent + tuple(part.local_shape)
    return Piece(name, part.key, tuple(part.global_shape), tuple(part.global_offset), shape, offset,
                 (0,) * absent + tuple(data.stride()))


def span(tensor: torch.Tensor) -> int:
    """Elements from the first of a tensor to its last, both included; 0 of an empty one."""
    return _span(tensor.shape, tensor.stride())


def _span(shape: Sequence[int], strides: Sequence[int]) -> int:
    return 1 + sum((extent - 1) * stride for extent, stride in zip(shape, strides)) if math.prod(shape) else 0
