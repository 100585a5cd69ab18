# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""vLLM's step after loading: a module quantises or repacks its weights, or makes things out of them.

A module whose step leaves the weights as they are, and makes nothing out of them, may have new weights written straight
into its live parameters. Which modules these are is found out by trying the step on a copy of the module with a pattern
in place of weights. For the others `run` does the step on weights that have landed, and copies what comes out into the
memory that the module has: pointers stay, as CUDA graphs need.
"""
import copy
import enum
import functools
import types
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from vllm.model_executor.layers.attention import is_deferred_attention_layer
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.quantization.kv_cache import BaseKVCacheMethod
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info
from vllm.model_executor.model_loader.reload.sanitize import restore_layer_refs

PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, enum.Enum, type,
         types.BuiltinFunctionType, types.ModuleType)
DEPTH = 6  # of objects in objects that are looked through for memory


class StepError(RuntimeError):
    """A module's step cannot be repeated. The message names the module."""


def has_step(module: nn.Module) -> bool:
    """Whether anything is done with the module's weights after loading."""
    method = getattr(module, "quant_method", None)
    return (isinstance(method, QuantizeMethodBase) and type(method).process_weights_after_loading
            is not QuantizeMethodBase.process_weights_after_loading)


def process(module: Any) -> None:
    """The step itself, also when the module has done it before."""
    method, experts = module.quant_method, experts_of(module)
    module.__dict__.pop("_already_called_process_weights_after_loading", None)
    method.process_weights_after_loading(module)
    # The unquantised method leaves this out from the second time on.
    if experts is not None and experts is experts_of(module):
        experts.process_weights_after_loading(module)
    if hasattr(module, "update_param_tp_status"):
        module.update_param_tp_status()


def experts_of(module: nn.Module) -> Any:
    """The kernel of a mixture of experts, once it is made, if it does something with weights."""
    experts = getattr(getattr(module.quant_method, "moe_kernel", None), "fused_experts", None)
    return experts if hasattr(experts, "process_weights_after_loading") else None


# -- does it change weights? ----------------------------------------------------------------------------------------


def keeps_weights(module: nn.Module, weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether the step leaves weights of these shapes as they are and makes nothing out of them.

    weights: by attribute, in the format of checkpoints; values do not matter. The module itself is left alone.
    """
    if not has_step(module):
        return True
    trial, objects = _copy_of(module)
    device = next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    patterns = {name: _pattern(tensor, device) for name, tensor in weights.items()}
    _give(trial, patterns, weights)
    before = {name: tensor.clone() for name, tensor in patterns.items()}
    state = [(each, dict(vars(each))) for each in objects]
    kinds = {kind: set(getattr(trial, kind)) for kind in ("_parameters", "_buffers")}
    try:
        with torch.no_grad():
            process(trial)
    except Exception:  # a step that cannot be tried is one that must be done
        return False
    known = {_storage(tensor) for tensor in (*patterns.values(), *module.parameters(), *module.buffers())}
    return (all(_is_same(getattr(trial, name, None), pattern, before[name]) for name, pattern in patterns.items())
            and all(set(getattr(trial, kind)) <= names for kind, names in kinds.items())
            and not any(_holds_memory(value, known, DEPTH) for each, old in state for name, value in vars(each).items()
                        if value is not old.get(name) and name not in ("_parameters", "_buffers")))


def _copy_of(module: nn.Module) -> tuple[nn.Module, list[Any]]:
    """A copy that a step may change, and all objects that were copied for that."""
    trial = copy.copy(module)
    for kind in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
        trial.__dict__[kind] = copy.copy(module.__dict__[kind])
    objects: list[Any] = [trial]
    trial.quant_method = _detached(module.quant_method, objects, 3)
    return trial, objects


def _detached(value: Any, objects: list[Any], depth: int) -> Any:
    """A copy of one of vLLM's objects and of those in it."""
    copied = copy.copy(value)
    if isinstance(copied, nn.Module):
        for kind in ("_parameters", "_buffers", "_modules"):
            copied.__dict__[kind] = copy.copy(value.__dict__[kind])
    objects.append(copied)
    for name, inner in vars(value).items():
        if depth and type(inner).__module__.startswith("vllm.") and hasattr(inner, "__dict__") and not isinstance(
                inner, (enum.Enum, type, nn.Module)):
            copied.__dict__[name] = _detached(inner, objects, depth - 1)
    return copied


def _pattern(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Values that no two permutations of have in common, as far as the dtype goes."""
    made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
    numbers = torch.arange(1, tensor.numel() + 1, device=device).reshape(tensor.shape) % 251
    return made.copy_(numbers.to(torch.float32) / 64) if made.is_floating_point() else made.copy_(numbers % 127)


def _is_same(tensor: Any, pattern: torch.Tensor, before: torch.Tensor) -> bool:
    return (isinstance(tensor, torch.Tensor) and _storage(tensor) == _storage(pattern)
            and (tensor.shape, tensor.stride(), tensor.dtype) == (pattern.shape, pattern.stride(), pattern.dtype)
            and torch.equal(tensor.data.view(torch.uint8) if tensor.is_contiguous() and tensor.dim() else tensor.data,
                            before.view(torch.uint8) if before.is_contiguous() and before.dim() else before))


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _holds_memory(value: Any, known: set[int], depth: int) -> bool:
    """Whether an object that the step made may hold what it made out of weights: a tensor, or what cannot be looked at."""
    if isinstance(value, PLAIN) or not depth:
        return not isinstance(value, PLAIN)
    if isinstance(value, torch.Tensor):
        return value.numel() > 0 and _storage(value) not in known
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return _holds_memory(cells + list(value.__defaults__ or ()), known, depth - 1)
    if isinstance(value, types.MethodType):
        return _holds_memory(value.__self__, known, depth - 1)
    if isinstance(value, functools.partial):
        return _holds_memory([value.func, *value.args, *value.keywords.values()], known, depth - 1)
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(_holds_memory(each, known, depth - 1) for each in value)
    if isinstance(value, dict):
        return any(_holds_memory(each, known, depth - 1) for each in value.values())
    return not hasattr(value, "__dict__") or any(_holds_memory(each, known, depth - 1) for each in vars(value).values())


# -- doing it -------------------------------------------------------------------------------------------------------


def _give(module: Any, weights: Mapping[str, torch.Tensor], like: Mapping[str, torch.Tensor]) -> None:
    """Puts weights into a module as its parameters, with the classes and attributes of `like`."""
    kept = get_layerwise_info(module).restore_metadata
    for name, weight in weights.items():
        model = next(known[name] for known in (*kept, like) if name in known)
        given = weight.detach()
        given.__class__ = model.__class__
        given.__dict__.update(model.__dict__)
        restore_layer_refs(given, module)
        if name in module._buffers:
            module._buffers[name] = given
        else:
            module._parameters[name] = given


def run(name: str, module: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Does the step on weights in the format of checkpoints, by attribute, and copies its outcome into live memory.

    The step may keep `weights`: they must be memory of their own. Errors: StepError names the module.
    """
    parameters: dict[str, Any] = dict(module._parameters)
    buffers: dict[str, Any] = dict(module._buffers)
    transient = set(module._non_persistent_buffers_set)
    kept = get_layerwise_info(module).restore_metadata[0]
    try:
        for made in set(parameters) - set(kept) - set(weights) if kept else ():
            if made != "bias":  # which vLLM does not note down either
                del module._parameters[made]
        method = getattr(module, "quant_method", None)
        if isinstance(method, BaseKVCacheMethod):
            method.create_weights(module)  # scales that the checkpoint has not got, which the step asks for
        _give(module, weights, {**parameters, **buffers})
        with torch.no_grad():
            if has_step(module):
                process(module)
            for old in (parameters, buffers):
                for attribute, live in old.items():
                    _copy(f"{name}.{attribute}", live, getattr(module, attribute, None))
    finally:
        current: Any
        for current, old in ((module._parameters, parameters), (module._buffers, buffers)):
            current.clear()
            current.update(old)
        module._non_persistent_buffers_set.clear()
        module._non_persistent_buffers_set.update(transient)


def _copy(name: str, live: torch.Tensor | None, new: Any) -> None:
    if live is None or new is None or new is live or _is_view_of(live, new):
        return
    if live.shape != new.shape:
        raise StepError(f"{name} has shape {list(live.shape)} in use, and its step now makes {list(new.shape)}")
    live.data.copy_(new.data)


def _is_view_of(live: torch.Tensor, new: torch.Tensor) -> bool:
    return live.data_ptr() == new.data_ptr() and live.shape == new.shape and live.numel() > 0


def finish_attention(model: nn.Module, dtype: torch.dtype) -> None:
    """The step of attention layers, which comes last: what they derive of other layers' weights stays where it is."""
    module: Any
    for module in model.modules():
        if not is_deferred_attention_layer(module):
            continue
        before = {name: value for name, value in vars(module).items() if isinstance(value, torch.Tensor)}
        module.process_weights_after_loading(dtype)
        for name, old in before.items():
            new = vars(module).get(name)
            if isinstance(new, torch.Tensor) and new is not old and new.shape == old.shape and new.dtype == old.dtype:
                old.data.copy_(new)
                setattr(module, name, old)
