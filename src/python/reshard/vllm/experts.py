# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Tables of experts that a server changes while it is up (EPLB): which logical expert lies in which slot of a worker.

vLLM's loaders fill the slots as the first table says. When another table is in force, the slots of a recording are read
anew: what is recorded for a slot is that of the expert which the table has there.
"""
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from reshard.vllm.recorder import RecordingError
from reshard.vllm.recording import Block, Recording, merge


@dataclasses.dataclass(frozen=True)
class Table:
    """Of one layer on this worker: parameters whose name begins with `prefix` have this logical expert in each slot."""

    prefix: str
    experts: tuple[int, ...]


def tables(model: nn.Module) -> list[Table]:
    """The tables in force now, of layers that have one; empty without EPLB. Copies a few numbers from the device."""
    return [Table(f"{name}.routed_experts.", _experts(module.routed_experts, state.logical_to_physical_map))
            for name, module in model.named_modules()
            if (state := _state(module)) is not None and hasattr(module, "routed_experts")]


def _state(module: nn.Module) -> Any:
    state = getattr(getattr(module, "router", None), "eplb_state", None)
    return state if getattr(state, "logical_to_physical_map", None) is not None else None


def _experts(routed: nn.Module, map_of_layer: torch.Tensor) -> tuple[int, ...]:
    """Logical experts by local slot, from vLLM's [logical, replicas] map of physical experts, -1 where there is none."""
    logical = {physical: expert for expert, row in enumerate(map_of_layer.tolist()) for physical in row if physical >= 0}
    local = getattr(routed, "_expert_map", None)
    physical = range(len(logical)) if local is None else [
        expert for _, expert in sorted((slot, expert) for expert, slot in enumerate(local.tolist()) if slot >= 0)]
    return tuple(logical[expert] for expert in physical)


def apply(recording: Recording, current: Sequence[Table]) -> Recording:
    """The recording under these tables. Errors: RecordingError names a parameter whose slots are not known."""
    if not current:
        return recording
    found = Recording(dict(recording.parameters), dict(recording.blocks))
    for table in current:
        for name in recording.parameters:
            if name.startswith(table.prefix):
                found.blocks[name] = merge([_replaced(name, block, slot, table.experts) for block, slot in _by_slot(
                    name, recording)])
    return found


def _by_slot(name: str, recording: Recording) -> Iterator[tuple[Block, int]]:
    """Blocks of one expert each, and their slots: the first dim of the parameter."""
    stride = recording.parameters[name].strides[0]
    for block in recording.blocks[name]:
        if block.is_zero:
            raise RecordingError(f"{name}: padding between experts under a changed table is not supported")
        for index in range(block.shape[0]):
            offset = block.offset + index * block.strides[0]
            yield Block(block.tensor, (block.begin[0] + index, *block.begin[1:]), (1, *block.shape[1:]), offset,
                        (0, *block.strides[1:])), offset // stride


def _replaced(name: str, block: Block, slot: int, experts: tuple[int, ...]) -> Block:
    if slot >= len(experts):
        raise RecordingError(f"{name} has a slot {slot}, of which the table of experts says nothing")
    return dataclasses.replace(block, begin=(experts[slot], *block.begin[1:]))
