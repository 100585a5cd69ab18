# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What this rank holds of a module: of plain, DTensor and FSDP2 (fully_shard) parameters, of the flat parameters of FSDP1
(FullyShardedDataParallel, use_orig_params or not), and of persistent buffers. Names are those of the unwrapped model.

Nothing is gathered: the memory is that of the sharded parameters.
"""
from __future__ import annotations

from typing import Any, Iterator

import torch
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.distributed.fsdp._traversal_utils import _get_fsdp_handles
from torch.nn.parallel import DistributedDataParallel

from .._dtypes import dtype_name
from .._errors import InvalidState, NotSupported
from ._pieces import Held, Piece, held_of

WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")


def clean(name: str) -> str:
    """A name without what FSDP1, activation checkpointing and torch.compile put into it."""
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def held_of_module(module: torch.nn.Module) -> list[Held]:
    """What this rank holds of the module's parameters and persistent buffers. Modules of FSDP2 that are unsharded, as the
    root is after a forward pass, are resharded first."""
    if isinstance(module, DistributedDataParallel):
        module = module.module
    sharded = fsdp2_parameters(module)
    found = {one.name: one for one in flat_parameters(module)}
    for name, value in entries(module):
        if name in found or getattr(value, "_is_flat_param", False):
            continue
        one = held_of(name, value, id(value) in sharded)
        if one is not None:
            found[name] = one
    return list(found.values())


def entries(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters and persistent buffers, also under their second names."""
    for prefix, part in module.named_modules(remove_duplicate=False):
        for kind, members in (("parameter", part._parameters), ("buffer", part._buffers)):
            for name, value in members.items():
                if value is not None and not (kind == "buffer" and name in part._non_persistent_buffers_set):
                    yield clean(f"{prefix}.{name}" if prefix else name), value


def fsdp2_parameters(module: torch.nn.Module) -> set[int]:
    """id() of each sharded parameter of fully_shard, which are then the module's."""
    found = set()
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()
            found |= {id(value) for value in part.parameters()}
    return found


# ------------------------------------------------------------------------------------------------------------- FSDP1

def flat_parameters(module: torch.nn.Module) -> Iterator[Held]:
    """What lies in the flat parameters of FSDP1: of each original parameter a range of its flattened elements."""
    if not any(isinstance(part, FullyShardedDataParallel) for part in module.modules()):
        return
    prefixes = {id(part): name for name, part in module.named_modules()}
    for handle in _get_fsdp_handles(module):
        flat = handle.flat_param
        shard = flat_shard(flat)
        names = {}
        for index, info in enumerate(flat._param_infos):
            name = names[info.module_name, info.param_name] = full_name(prefixes, info.module, info.param_name)
            yield flat_held(name, flat, index, shard)
        for tied in flat._shared_param_infos:
            name = full_name(prefixes, tied.module, tied.param_name)
            first = (tied.prim_module_name, tied.prim_param_name)
            yield flat_held(name, flat, list(names).index(first), shard)


def full_name(prefixes: dict[int, str], module: torch.nn.Module, name: str) -> str:
    prefix = prefixes[id(module)]
    return clean(f"{prefix}.{name}" if prefix else name)


def flat_shard(flat: Any) -> torch.Tensor:
    """This rank's part of a flat parameter, as the optimiser sees it; before the first forward pass it is the parameter."""
    shard = getattr(flat, "_local_shard", None)
    if shard is None:
        shard = flat.detach()
    if shard.numel() != flat._sharded_size.numel() or not shard.untyped_storage().nbytes() >= shard.nbytes:
        raise InvalidState(f"the flat parameter of {flat._fqns[0]}, ... is unsharded now; move weights outside of "
                           "summon_full_params and between steps")
    return shard


def flat_held(name: str, flat: Any, index: int, shard: torch.Tensor) -> Held:
    """One original parameter's part of the shard; no pieces where it lies on other ranks only."""
    if flat._param_extensions[index] is not None or not flat._contiguities[index]:
        raise NotSupported(f"parameter {name!r} of FSDP1 was a DTensor or not contiguous before it was flattened; use "
                           "fully_shard (FSDP2)")
    info, size_bytes = flat._shard_param_infos[index], shard.element_size()
    held = Held(name, tuple(flat._shapes[index]), dtype_name(shard.dtype), shard)
    if info.in_shard and info.numel_in_shard:
        offset_bytes = (shard.storage_offset() + info.offset_in_shard) * size_bytes
        held.pieces.append(Piece((info.intra_param_start_idx,), (info.numel_in_shard,), offset_bytes, (size_bytes,), True))
    return held
