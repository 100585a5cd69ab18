# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The layout of one worker of vLLM, recorded from the weight loaders of its own model.

The model may be fresh, or in use with its weights quantised and repacked: for the time of the recording its modules get
parameters in the format of checkpoints back, on the meta device, as vLLM itself remembers them for reloading.

Layers that are equal are recorded once. Two layers are equal when their modules are of the same classes and have the
same tensors and expert tables, and when the checkpoint has the same for both; the first and the last of equal layers are
recorded, and must have the same blocks, or all are.
"""
import contextlib
import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from vllm.model_executor.layers.quantization.kv_cache import KVCacheScaleParameter
from vllm.model_executor.model_loader.mtp_validation import disable_mtp_completeness_check
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info
from vllm.model_executor.model_loader.reload.meta import restore_layer_on_meta

from reshard import _collector
from reshard.vllm.recorder import Recorder, RecordingError, storage_of
from reshard.vllm.recording import Block, CheckpointTensor, Parameter, Recording, blocks_of

LAYER = re.compile(r"\.(\d+)\.")


def record(model: nn.Module, tensors: Sequence[CheckpointTensor], every_layer: bool = False) -> Recording:
    """Records the layout of `model` for a trainer that has these tensors.

    every_layer: equal layers one by one, too; slower by their number.
    Errors: RecordingError names the parameter, or the tensor whose loader fails.
    """
    with _collector.paused():
        # With a shared module (rotary embeddings) in each layer that has it, so that layers do not differ by it.
        modules = dict(model.named_modules(remove_duplicate=False))
        tensors = _as_in_files(modules, tensors)
        layers = _Layers(modules, tensors)
        if every_layer or not layers.is_worth_it():
            return _record(model, modules, tensors)
        try:
            return _record_once(model, modules, tensors, layers)
        except (_NotEqual, RecordingError):
            return _record(model, modules, tensors)


def _record_once(model: nn.Module, modules: dict[str, nn.Module], tensors: Sequence[CheckpointTensor],
                 layers: "_Layers") -> Recording:
    """The first and the last of equal layers, with all that is not in a layer; all others as the first."""
    chosen = layers.chosen()
    return layers.repeat(_record(model, {name: module for name, module in modules.items()
                                         if layer_of(name + ".") in chosen},
                                 [tensor for tensor in tensors if layer_of(tensor.name) in chosen], layers.firsts()))


def _as_in_files(modules: dict[str, nn.Module], tensors: Sequence[CheckpointTensor]) -> Sequence[CheckpointTensor]:
    """Marks the experts' tensors that the model expects the other way around: published files of Qwen3-VL-MoE hold them
    as [experts, in, out], transformers 5 as [experts, out, in]. Of gate and up (2 F) and down (F) the shapes tell."""
    if not any(getattr(module, "is_fused_checkpoint_transposed", False) for module in modules.values()):
        return tensors
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    turned = {name for name in shapes if name.endswith(".experts.gate_up_proj")
              and shapes[name][1] == 2 * shapes[name.replace("gate_up_proj", "down_proj")][2]}
    turned |= {name.replace("gate_up_proj", "down_proj") for name in turned}
    return [dataclasses.replace(tensor, is_turned=tensor.name in turned) for tensor in tensors]


def layer_of(name: str) -> int | None:
    """The outermost number of a name; None for embeddings, the last norm, and the like."""
    match = LAYER.search(name)
    return int(match[1]) if match else None


class _NotEqual(Exception):
    """Layers that look equal are not loaded alike."""


class _Layers:
    """Which layers are equal. A layer is a number in names, the outermost one: the towers of a model share them."""

    def __init__(self, modules: dict[str, nn.Module], tensors: Sequence[CheckpointTensor]):
        looks: dict[int, list] = {}
        for name, module in modules.items():
            match = LAYER.search(name + ".")
            if match:
                looks.setdefault(int(match[1]), []).append((name[:match.start()], name[match.end():], *_look(module)))
        for tensor in tensors:
            match = LAYER.search(tensor.name)
            if match:
                looks.setdefault(int(match[1]), []).append((tensor.name[:match.start()], tensor.name[match.end():],
                                                            tensor.shape, tensor.dtype))
        classes: dict[tuple, list[int]] = {}
        for index, look in looks.items():
            classes.setdefault(tuple(look), []).append(index)
        self.classes = list(classes.values())

    def is_worth_it(self) -> bool:
        return any(len(equal) > 2 for equal in self.classes)

    def chosen(self) -> set[int | None]:
        return {None, *(equal[0] for equal in self.classes), *(equal[-1] for equal in self.classes)}

    def firsts(self) -> dict[int, int]:
        """The first layer of those that are like a last one."""
        return {equal[-1]: equal[0] for equal in self.classes if len(equal) > 1}

    def repeat(self, some: Recording) -> Recording:
        """The recording of all layers. Raises _NotEqual where a last one is not as its first one."""
        whole = Recording()
        by_index: dict[int | None, list[str]] = {}
        for name in some.parameters:
            by_index.setdefault(layer_of(name + "."), []).append(name)
        for index, names in by_index.items():
            if any(layer_of(block.tensor) != index for name in names for block in some.blocks[name]):
                raise _NotEqual
        for name in by_index.get(None, []):
            whole.parameters[name], whole.blocks[name] = some.parameters[name], some.blocks[name]
        for equal in self.classes:
            for name in by_index.get(equal[0], []):
                _repeat(whole, some.parameters[name], some.blocks[name], equal)
        if any(some.parameters[name] != whole.parameters.get(name) or some.blocks[name] != whole.blocks[name]
               for name in some.parameters):
            raise _NotEqual
        last = self.firsts()
        if sum(layer_of(name + ".") in last for name in whole.parameters) != sum(len(by_index.get(i, ())) for i in last):
            raise _NotEqual
        return whole


def _repeat(whole: Recording, parameter: Parameter, blocks: list[Block], layers: list[int]) -> None:
    """Puts a parameter of the first of equal layers into all of them."""
    head, tail = _around(parameter.name)
    parts = [(*_around(block.tensor), block) for block in blocks]
    for index in layers:
        name = f"{head}{index}{tail}"
        whole.parameters[name] = Parameter(name, parameter.shape, parameter.strides, parameter.dtype)
        whole.blocks[name] = [Block(f"{before}{index}{behind}", block.begin, block.shape, block.offset, block.strides,
                                    block.is_zero) for before, behind, block in parts]


def _around(name: str) -> tuple[str, str]:
    """What stands before and behind the number of a name's layer."""
    match = LAYER.search(name + ".")
    assert match is not None
    return name[:match.start(1)], name[match.end(1):]


def _look(module: nn.Module) -> tuple:
    """What must be equal in modules of equal layers."""
    if not (module._parameters or module._buffers):
        return (type(module),)
    kept = get_layerwise_info(module).restore_metadata
    tensors = tuple((name, tensor.shape, tensor.stride(), tensor.dtype) for kind in kept for name, tensor in kind.items())
    table = getattr(module, "_expert_map", None)
    return (type(module), type(getattr(module, "quant_method", None)), tensors,
            None if table is None else tuple(table.tolist()))


@contextlib.contextmanager
def checkpoint_format(modules: dict[str, nn.Module]) -> Iterator[dict[str, torch.Tensor]]:
    """Gives modules their parameters as they were before the first weights came, on the meta device, and yields these.

    Tensors that are one (tied embeddings) stay one, and are yielded under the first name. At the end the modules have
    exactly the tensors that they had.
    """
    first = {module: name for name, module in reversed(modules.items())}
    modules = {name: module for name, module in modules.items() if first[module] == name}
    before = {name: (dict(module._parameters), dict(module._buffers), set(module._non_persistent_buffers_set))
              for name, module in modules.items()}
    same: dict[int, Any] = {}
    found: dict[str, torch.Tensor] = {}
    try:
        for prefix, module in modules.items():
            info = get_layerwise_info(module)
            if any(info.restore_metadata):
                restore_layer_on_meta(module, info)
            for kind, old in ((module._parameters, before[prefix][0]), (module._buffers, before[prefix][1])):
                for name, tensor in kind.items():
                    if tensor is None:
                        continue
                    # A tensor of no elements may stand for many: a kernel holds what they were.
                    live = old.get(name)
                    key = id(live) if live is not None and live.numel() else id(tensor)
                    if key in same:
                        kind[name] = same[key]
                    else:
                        same[key] = tensor
                        found[f"{prefix}.{name}" if prefix else name] = tensor
        yield found
    finally:
        for prefix, module in modules.items():
            parameters, buffers, transient = before[prefix]
            module._parameters.clear()
            module._parameters.update(parameters)
            module._buffers.clear()
            module._buffers.update(buffers)
            module._non_persistent_buffers_set.clear()
            module._non_persistent_buffers_set.update(transient)


def _record(model: Any, modules: dict[str, nn.Module], tensors: Sequence[CheckpointTensor],
            firsts: dict[int, int] | None = None) -> Recording:
    """Records these modules with these tensors. firsts: see _wanted."""
    recorder, at = Recorder(), [""]
    sources = {tensor.name: recorder.source(tensor.name, tensor.shape, tensor.dtype) for tensor in tensors}

    def weights() -> Iterator[tuple[str, torch.Tensor]]:
        for tensor in tensors:
            for name, part in tensor.files(sources[tensor.name], _wanted(recorder, tensor, sources, firsts or {})):
                at[0] = name
                yield name, part

    with checkpoint_format(modules) as found:
        for name, parameter in found.items():
            recorder.add_parameter(name, parameter)
        with torch.no_grad(), disable_mtp_completeness_check(), recorder:
            try:
                model.load_weights(weights())
            except RecordingError as error:
                raise RecordingError(f"{at[0]}: {error}") from None
            except Exception as error:
                raise RecordingError(f"{at[0]}: its loader in {type(model).__name__} fails on a tensor without memory: "
                                     f"{type(error).__name__}: {error}") from error
        return _recording(recorder, found)


def _wanted(recorder: Recorder, tensor: CheckpointTensor, sources: dict[str, torch.Tensor],
            firsts: dict[int, int]) -> set[int] | None:
    """Of a layer that is like an earlier one only those experts are given that the earlier one has taken: others would
    be passed over again. None: all, also where the earlier layer's have not been loaded yet."""
    layer = layer_of(tensor.name) if tensor.is_stacked else None
    if layer not in firsts:
        return None
    before, behind = _around(tensor.name)
    taken = recorder.taken.get(storage_of(sources[f"{before}{firsts[layer]}{behind}"]), set())
    step = math.prod(tensor.shape[1:])
    return {offset // step for offset in taken} or None


def _recording(recorder: Recorder, found: dict[str, torch.Tensor]) -> Recording:
    recording = Recording()
    for name, space in recorder.parameters.values():
        tensor = found[name]
        is_parameter = isinstance(tensor, nn.Parameter)
        if tensor.numel() == 0 or not (space.pieces or is_parameter):
            continue
        if isinstance(tensor, KVCacheScaleParameter) and not space.pieces:
            continue  # most checkpoints of quantised models have no scales of the cache: vLLM's step then takes its own
        recording.parameters[name] = Parameter(name, tuple(tensor.shape), tensor.stride(), tensor.dtype)
        recording.blocks[name] = blocks_of(name, space, is_parameter)
    return recording
