# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Where recorded weights land: in the live parameters, or in scratch, from which a module's step makes what is in use."""
from __future__ import annotations

import ctypes
import math
from typing import Any

import torch
from torch import nn

import reshard
from reshard.vllm import steps
from reshard.vllm.recorder import RecordingError
from reshard.vllm.recording import CheckpointTensor, Parameter, Recording

DTYPES = {"BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "F8_E4M3": torch.float8_e4m3fn,
          "F8_E5M2": torch.float8_e5m2, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32,
          "F64": torch.float64, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64}


def checkpoint_tensors(source: reshard.Layout) -> list[CheckpointTensor]:
    """The trainer's tensors as the loaders are to see them."""
    return [CheckpointTensor(tensor.name, tensor.shape, DTYPES[tensor.dtype]) for tensor in source.tensors]


def layout_of(recording: Recording, source: reshard.Layout, rank: int, num_ranks: int) -> reshard.Layout:
    """The layout of one worker: a buffer for each parameter. A tensor has the parameter's dtype, its group is the source's.

    Errors: RecordingError for a tensor that lies in parameters of different dtypes, which one layout cannot say.
    """
    builder, known = reshard.LayoutBuilder(num_ranks), {tensor.name: tensor for tensor in source.tensors}
    dtypes: dict[str, torch.dtype] = {}
    for name, blocks in recording.blocks.items():
        dtype = recording.parameters[name].dtype
        for block in blocks:
            if dtypes.setdefault(block.tensor, dtype) != dtype:
                raise RecordingError(f"{name} has {block.tensor} as {dtype}, another parameter as {dtypes[block.tensor]}")
    for name, dtype in dtypes.items():
        builder.tensor(name, known[name].shape, dtype, known[name].group)
    for name, blocks in recording.blocks.items():
        unit = recording.parameters[name].dtype.itemsize
        builder.buffer(rank, name, recording.parameters[name].size_bytes)
        for block in blocks:
            builder.block(block.tensor, rank, name, block.begin, block.shape, offset_bytes=block.offset * unit,
                          strides_bytes=[stride * unit for stride in block.strides],
                          kind="zero" if block.is_zero else "data")
    return builder.build()


class Landing:
    """For each parameter of a recording where it lands; for modules with a step, what `take` does with what landed."""

    def __init__(self, model: nn.Module, recording: Recording):
        """Errors: RecordingError for memory that is not in the format of checkpoints and has no step that makes it so."""
        self.memory: dict[str, reshard.Memory] = {}  # live, by buffer
        self.scratch: set[str] = set()
        self._parameters = recording.parameters
        self._model, self._live = model, _live(model)
        self._modules: dict[str, list[str]] = {}  # of modules with a step: the parameters, by module's name
        self._choose()

    def _choose(self) -> None:
        users: dict[str, list[str]] = {}  # parameter -> modules that have it, under whatever name
        by_identity = {id(tensor): name for name, tensor in reversed(self._live.items()) if tensor.numel()}
        modules = dict(self._model.named_modules())
        for prefix, module in modules.items():
            for attribute, tensor in (*module._parameters.items(), *module._buffers.items()):
                own = _joined(prefix, attribute)
                name = own if own in self._parameters or tensor is None else by_identity.get(id(tensor), own)
                if name in self._parameters:
                    users.setdefault(name, []).append(prefix)
        for name in self._parameters:
            users.setdefault(name, [name.rpartition(".")[0]])
        stepping = self._stepping(modules, users)
        # A module's parameters pass its step together, and so do those of all modules that share one with it.
        self.scratch = {name for name, prefixes in users.items() if stepping & set(prefixes)}
        for name, prefixes in users.items():
            if name in self.scratch:
                for prefix in prefixes:
                    self._modules.setdefault(prefix, []).append(name)
            else:
                self.memory[name] = self._live_memory(name)

    def _stepping(self, modules: dict[str, nn.Module], users: dict[str, list[str]]) -> set[str]:
        """Modules through whose step new weights must pass. Each kind of module is tried once."""
        weights: dict[str, dict[str, torch.Tensor]] = {}
        for name, prefixes in users.items():
            for prefix in prefixes:
                attribute = name.rpartition(".")[2]
                weights.setdefault(prefix, {})[attribute] = _as_loaded(self._parameters[name])
        tried: dict[tuple, bool] = {}
        found = set()
        for prefix, given in weights.items():
            module = modules[prefix]
            looks = tuple((name, tensor.shape, tensor.dtype) for name, tensor in given.items())
            key = (type(module), type(getattr(module, "quant_method", None)), looks)
            if key not in tried:
                tried[key] = steps.keeps_weights(module, given)
            is_live = all(self._is_live(_joined(prefix, attribute)) for attribute in given)
            if not tried[key] or (steps.has_step(module) and not is_live):
                found.add(prefix)
        return found

    def _is_live(self, name: str) -> bool:
        parameter, live = self._parameters.get(name), self._live.get(name)
        return parameter is None or (live is not None and (tuple(live.shape), live.stride(), live.dtype) == (
            parameter.shape, parameter.strides, parameter.dtype))

    def _live_memory(self, name: str) -> reshard.Memory:
        if not self._is_live(name):
            live = self._live.get(name)
            raise RecordingError(f"{name} is {_look(self._parameters[name])} in checkpoints, in use it is "
                                 f"{_look(live) if live is not None else 'gone'}, and its module has no step that says how")
        live = self._live[name]
        return reshard.Memory(live.data_ptr(), self._parameters[name].size_bytes,
                              live.device.index if live.device.type == "cuda" else None, True, live)

    def is_valid(self) -> bool:
        """Whether the live parameters are where they were."""
        live = _live(self._model)
        return all(name in live and live[name].data_ptr() == memory.ptr for name, memory in self.memory.items())

    def take(self, layer: reshard.Layer) -> None:
        """Does the steps of a layer that has landed. Errors: StepError, and what a step raises."""
        landed = {name: shaped(memory, self._parameters[name]).clone()
                  for name, memory in layer.buffers.items() if name in self.scratch}
        modules = dict(self._model.named_modules())
        for prefix, names in self._modules.items():
            have = [name for name in names if name in landed]
            if have:
                if len(have) != len(names):
                    raise steps.StepError(f"{prefix}: its parameters come in different layers: {', '.join(names)}")
                steps.run(prefix, modules[prefix], {name.rpartition(".")[2]: landed[name] for name in names})


def _joined(prefix: str, attribute: str) -> str:
    return f"{prefix}.{attribute}" if prefix else attribute


def _live(model: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_buffers()), **dict(model.named_parameters())}


def _look(tensor: Any) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"


def _as_loaded(parameter: Parameter) -> torch.Tensor:
    return torch.empty_strided(parameter.shape, parameter.strides, dtype=parameter.dtype, device="meta")


class _CudaArray:
    """Device memory as CUDA's array interface describes it."""

    def __init__(self, memory: reshard.Memory):
        self.owner = memory
        self.__cuda_array_interface__ = {"shape": (memory.size_bytes,), "typestr": "|u1", "data": (memory.ptr, False),
                                         "version": 3}


def shaped(memory: reshard.Memory, parameter: Parameter) -> torch.Tensor:
    """A tensor over memory that has landed. It is valid as long as the memory."""
    if math.prod(parameter.shape) == 0:
        return torch.empty(parameter.shape, dtype=parameter.dtype)
    if memory.device is None:
        array = (ctypes.c_uint8 * parameter.size_bytes).from_address(memory.ptr)
        flat = torch.frombuffer(array, dtype=torch.uint8)
    else:
        flat = torch.as_tensor(_CudaArray(memory), device=f"cuda:{memory.device}")[:parameter.size_bytes]
    return flat.view(parameter.dtype).as_strided(parameter.shape, parameter.strides)
