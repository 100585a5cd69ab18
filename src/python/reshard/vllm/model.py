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
import gc
import re
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from vllm.model_executor.model_loader.mtp_validation import disable_mtp_completeness_check
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info
from vllm.model_executor.model_loader.reload.meta import restore_layer_on_meta

from reshard.vllm.recorder import Recorder, RecordingError
from reshard.vllm.recording import STACKED, Block, CheckpointTensor, Parameter, Recording, blocks_of

LAYER = re.compile(r"\.(\d+)\.")


def record(model: nn.Module, tensors: Sequence[CheckpointTensor], every_layer: bool = False) -> Recording:
    """Records the layout of `model` for a trainer that has these tensors.

    every_layer: equal layers one by one, too; slower by their number.
    Errors: RecordingError names the parameter, or the tensor whose loader fails.
    """
    was_enabled = gc.isenabled()
    gc.disable()  # a pass over all that vLLM has imported takes longer than the recording
    try:
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
    finally:
        if was_enabled:
            gc.enable()


def _record_once(model: nn.Module, modules: dict[str, nn.Module], tensors: Sequence[CheckpointTensor],
                 layers: "_Layers") -> Recording:
    """The first of equal layers with all that is not in a layer, then the last, and all others as these."""
    first = _record(model, *_chosen(modules, tensors, layers.first()))
    # Of the last layer only those experts are asked for that the first one took: that is all that can fit in.
    last = _record(model, *_chosen(modules, tensors, layers.last()), layers.experts(first))
    return layers.repeat(first, last)


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


def _chosen(modules: dict[str, nn.Module], tensors: Sequence[CheckpointTensor],
            indices: set[int | None]) -> tuple[dict[str, nn.Module], list[CheckpointTensor]]:
    return ({name: module for name, module in modules.items() if layer_of(name + ".") in indices},
            [tensor for tensor in tensors if layer_of(tensor.name) in indices])


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

    def first(self) -> set[int | None]:
        return {None, *(equal[0] for equal in self.classes)}

    def last(self) -> set[int | None]:
        return {equal[-1] for equal in self.classes if len(equal) > 1}

    def experts(self, first: Recording) -> dict[str, set[int]]:
        """The experts that the first layers took, by the tensors of the last ones."""
        ends = {equal[0]: equal[-1] for equal in self.classes}
        found: dict[str, set[int]] = {}
        for blocks in first.blocks.values():
            for block in blocks:
                if STACKED.search(block.tensor):
                    index = layer_of(block.tensor)
                    name = _renamed(block.tensor, index, ends.get(index, index))
                    found.setdefault(name, set()).update(range(block.begin[0], block.begin[0] + block.shape[0]))
        return found

    def repeat(self, first: Recording, last: Recording) -> Recording:
        """The recording of all layers. Raises _NotEqual where a last one is not as its first one."""
        whole = Recording()
        by_index: dict[int | None, list[str]] = {}
        for name in first.parameters:
            by_index.setdefault(layer_of(name + "."), []).append(name)
        _take(whole, first, by_index.get(None, []), None, None)
        for equal in self.classes:
            for index in equal:
                _take(whole, first, by_index.get(equal[0], []), equal[0], index)
        if any(last.parameters[name] != whole.parameters.get(name) or last.blocks[name] != whole.blocks[name]
               for name in last.parameters):
            raise _NotEqual
        if sum(layer_of(name + ".") in self.last() for name in whole.parameters) != len(last.parameters):
            raise _NotEqual
        return whole


def _take(whole: Recording, some: Recording, names: list[str], old: int | None, new: int | None) -> None:
    for name in names:
        if any(layer_of(block.tensor) != old for block in some.blocks[name]):
            raise _NotEqual
        parameter, renamed = some.parameters[name], _renamed(name, old, new)
        whole.parameters[renamed] = parameter if old == new else Parameter(renamed, parameter.shape, parameter.strides,
                                                                           parameter.dtype)
        whole.blocks[renamed] = some.blocks[name] if old == new else [
            Block(_renamed(block.tensor, old, new), block.begin, block.shape, block.offset, block.strides, block.is_zero)
            for block in some.blocks[name]]


def _renamed(name: str, old: int | None, new: int | None) -> str:
    return name if old == new else LAYER.sub(f".{new}.", name + ".", count=1)[:-1]


def _look(module: nn.Module) -> tuple:
    """What must be equal in modules of equal layers."""
    kept = get_layerwise_info(module).restore_metadata if module._parameters or module._buffers else ({}, {})
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
    same: dict[int, torch.Tensor] = {}
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


def _record(model: nn.Module, modules: dict[str, nn.Module], tensors: Sequence[CheckpointTensor],
            experts: dict[str, set[int]] | None = None) -> Recording:
    """Records these modules with these tensors; experts: by the tensor's name, where only some are wanted."""
    recorder, at, chosen = Recorder(), [""], experts or {}
    files = [file for tensor in tensors
             for file in tensor.files(recorder.source(tensor.name, tensor.shape, tensor.dtype), chosen.get(tensor.name))]

    def weights() -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in files:
            at[0] = name
            yield name, tensor

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


def _recording(recorder: Recorder, found: dict[str, torch.Tensor]) -> Recording:
    recording = Recording()
    for name, space in recorder.parameters.values():
        tensor = found[name]
        is_parameter = isinstance(tensor, nn.Parameter)
        if tensor.numel() == 0 or not (space.pieces or is_parameter):
            continue
        recording.parameters[name] = Parameter(name, tuple(tensor.shape), tensor.stride(), tensor.dtype)
        recording.blocks[name] = blocks_of(name, space, is_parameter)
    return recording
