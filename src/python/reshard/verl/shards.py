# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What an actor rank holds, from the training engine that verl gives it: nothing is gathered."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import reshard

Tensor = tuple[str, tuple[int, ...], str]  # name, shape of the whole, dtype
GroupOf = Callable[[str], int]


class Shards(Protocol):
    """One rank's part of the model, in the names of its checkpoint."""

    model_type: str  # transformers' name of the family; "" where it is not known

    def key(self) -> Any:
        """Equal (by repr) where the same elements lie at the same addresses."""

    def tensors(self) -> list[Tensor]:
        """Those of which this rank knows."""

    def layout(self, rank: int, num_ranks: int, group_of: GroupOf) -> tuple[reshard.Layout, dict[str, reshard.Memory]]:
        """This rank's layout alone, and its memory by buffer name."""


class Found(NamedTuple):
    shards: Any
    reason: str  # why there are none


def shards_of(engine: Any) -> Found:
    """The shards of verl's FSDP and Megatron engines, or of another engine with a `module` of DTensors."""
    module = getattr(engine, "module", None)
    if module is None:
        return Found(None, f"{type(engine).__name__} has no `module`")
    first = module[0] if isinstance(module, (list, tuple)) else module
    if getattr(engine, "_qat_enabled", False):
        return Found(None, "the engine quantises what it exports")
    if hasattr(getattr(first, "_fsdp_wrapped_module", first), "peft_config") or getattr(engine, "peft_cls", None):
        return Found(None, "adapters (LoRA) are merged into full tensors by the engine")
    if _is_megatron(first):
        return Found(MegatronShards(module, engine.model_config.hf_config), "")
    return Found(TorchShards(first), "")


def _is_megatron(module: Any) -> bool:
    while hasattr(module, "module"):  # DDP, Float16Module
        module = module.module
    return hasattr(module, "pg_collection") and hasattr(module, "sharded_state_dict")


class TorchShards:
    """Of a module under FSDP1, FSDP2, or of DTensors in any way."""

    def __init__(self, module: Any):
        import reshard.torch

        inner = getattr(module, "_fsdp_wrapped_module", module)
        self.model_type = str(getattr(getattr(inner, "config", None), "model_type", ""))
        held = {one.name: one for one in reshard.torch.held(module)}
        if hasattr(inner, "_checkpoint_conversion_mapping"):  # of transformers: names in files are others
            from verl.utils.model import convert_weight_keys

            for name, one in convert_weight_keys(dict(held), inner).items():
                one.name = name
        self._held = list(held.values())

    def key(self) -> Any:
        return [one.key() for one in self._held]

    def tensors(self) -> list[Tensor]:
        return [(one.name, one.shape, one.dtype) for one in self._held]

    def layout(self, rank: int, num_ranks: int, group_of: GroupOf) -> tuple[reshard.Layout, dict[str, reshard.Memory]]:
        import reshard.torch

        return reshard.torch.local_layout(self._held, rank, num_ranks, group_of)


class MegatronShards:
    """Of Megatron-Core's GPT models, under the names of the checkpoint that the config describes."""

    def __init__(self, model: Any, config: Any):
        from reshard.megatron import CheckpointNames

        self.model_type = str(config.model_type)
        self._model, self._names = model, CheckpointNames(config)

    def _side(self, rank: int, num_ranks: int) -> Any:
        from reshard.megatron import local_layout

        return local_layout(self._model, rank, num_ranks, self._names)

    def key(self) -> Any:
        side = self._side(0, 1)
        return [(name, tuple(tensor.shape), str(tensor.dtype), tensor.data_ptr()) for name, tensor in side.tensors.items()]

    def tensors(self) -> list[Tensor]:
        return [(tensor.name, tensor.shape, tensor.dtype) for tensor in self._side(0, 1).layout.tensors]

    def layout(self, rank: int, num_ranks: int, group_of: GroupOf) -> tuple[reshard.Layout, dict[str, reshard.Memory]]:
        from reshard.megatron import local_layout

        side = local_layout(self._model, rank, num_ranks, _Grouped(self._names, group_of))
        return side.layout, side.buffers


class _Grouped:
    """Names with groups of another's choice."""

    def __init__(self, names: Any, group_of: GroupOf):
        self.parts, self.shape, self._group_of = names.parts, names.shape, group_of

    def group(self, tensor: str, num_layers: int) -> int:
        return self._group_of(tensor)
