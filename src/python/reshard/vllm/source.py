# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""A trainer's weights as vLLM's WeightSource: the local shards of each rank, where they lie. Nothing is gathered."""
from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource

import reshard
from reshard.torch import Held, Piece, held, local_layout
from reshard.vllm.landing import DTYPES
from reshard.vllm.link import Side

# transformers 5 holds a layer's experts in two parameters; files, which vLLM reads, have them one by one for most models.
FUSED = re.compile(r"^(.*)\.experts\.(gate_up_proj|down_proj)$")
# Names in files of a layer's gate, up and down, by what stands before ".experts."
NAMES_IN_FILES = (("gate_proj.weight", "up_proj.weight", "down_proj.weight"), ("w1.weight", "w3.weight", "w2.weight"))


class ShardSource(WeightSource):
    """What each trainer rank holds, tensor by tensor, under the names of checkpoint files.

    describe: gives what this rank holds now; it is asked before each update, and must name the same tensors every time.
    """

    def __init__(self, describe: Callable[[], list[Held]]):
        self._describe = describe

    @classmethod
    def of_module(cls, module: torch.nn.Module, config: Any = None) -> ShardSource:
        """Of a module of FSDP2, FSDP1, DTensor or plain parameters, with the names of transformers.

        config: of the model (transformers' config, dict or path), from which the names in files are taken where the
        module's differ; None: the module's own, if it has one.
        """
        config = getattr(module, "config", None) if config is None else config
        names = file_names(config)
        return cls(lambda: in_files(held(module), names))

    @staticmethod
    def of_megatron(model: Any, config: Any) -> ShardSource:
        """Of a Megatron-Core model, under the names of the checkpoint that `config` (transformers' config, dict or path)
        describes.

        model: a GPTModel, a list of the chunks of a virtual pipeline, wrapped or not, or None on a rank without a part.
        Errors: reshard.NotSupported for a family without a `megatron:` layout.
        """
        return MegatronSource(model, config)

    def held(self) -> list[Held]:
        """This rank's shards. Errors: reshard.NotSupported names a parameter whose shards cannot be described."""
        return self._describe()

    def side(self, rank: int, num_ranks: int) -> Side:
        """This rank's side of a transfer."""
        layout, memory = local_layout(self.held(), rank, num_ranks)
        return Side(layout, memory)

    def key(self) -> tuple[Any, ...]:
        """Equal as long as the same shards lie at the same addresses."""
        return tuple(one.key() for one in self.held())

    def metadata(self) -> list[ParamMeta]:
        """Names, dtypes and whole shapes."""
        return [ParamMeta(one.name, DTYPES[one.dtype], one.shape) for one in self.held()]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """(name, the memory in which this rank's shard lies); the engine `reshard` does not ask for it."""
        for one in self.held():
            yield one.name, one.storage


class MegatronSource(ShardSource):
    """Of a Megatron-Core model: what one of its parameters holds, q, k and v say, is of several of a checkpoint's tensors."""

    def __init__(self, model: Any, config: Any):
        from reshard.megatron import CheckpointNames  # which imports Megatron

        super().__init__(lambda: [])
        self._model, self._names = model, CheckpointNames(config)

    def side(self, rank: int, num_ranks: int) -> Side:
        from reshard.megatron import local_layout

        found = local_layout(self._model, rank, num_ranks, self._names)
        return Side(found.layout, found.buffers)

    def key(self) -> tuple[Any, ...]:
        """Without reading all that Megatron says of its parameters: this is asked before each update."""
        chunks = [] if self._model is None else self._model if isinstance(self._model, (list, tuple)) else [self._model]
        return tuple((name, tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
                     for chunk in chunks for name, tensor in (*chunk.named_parameters(), *chunk.named_buffers()))

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(one.name, DTYPES[one.dtype], one.shape) for one in self.side(0, 1).layout.tensors]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """(Megatron's name, parameter)."""
        from reshard.megatron import describe

        yield from describe(self._model).tensors.items()


def file_names(config: Any) -> set[str]:
    """The tensors of a model's checkpoint, experts stacked; empty for a model that the library does not know."""
    if config is None:
        return set()
    try:
        return {tensor.name for tensor in reshard.Layout.from_text(config, "checkpoint").tensors}
    except reshard.NotSupported:
        return set()


def in_files(parts: list[Held], names: set[str]) -> list[Held]:
    """The same memory under the names of files: [gate | up] of all experts as two tensors, and down as one."""
    found: list[Held] = []
    for part in parts:
        match = FUSED.match(part.name)
        if match is None or part.name in names:
            found.append(part)
            continue
        prefix, kind = match.groups()
        prefix, (gate, up, down) = _experts_in_files(prefix, names)
        if kind == "down_proj":
            found.append(dataclasses.replace(part, name=f"{prefix}.experts.{down}"))
        else:
            half = part.shape[1] // 2
            found.append(_rows(part, f"{prefix}.experts.{gate}", 0, half))
            found.append(_rows(part, f"{prefix}.experts.{up}", half, part.shape[1]))
    return found


def _experts_in_files(prefix: str, names: set[str]) -> tuple[str, tuple[str, str, str]]:
    for before in (prefix, re.sub(r"\.mlp$", ".block_sparse_moe", prefix)):
        for three in NAMES_IN_FILES:
            if f"{before}.experts.{three[2]}" in names:
                return before, three
    return prefix, NAMES_IN_FILES[0]


def _rows(part: Held, name: str, begin: int, end: int) -> Held:
    """Rows [begin, end) of dim 1 as a tensor of their own."""
    pieces: list[Piece] = []
    for piece in part.pieces:
        if piece.is_flat:
            pieces += _flat_rows(part.shape, piece, begin, end)
            continue
        low, high = max(begin, piece.start[1]), min(end, piece.start[1] + piece.shape[1])
        if low < high:
            pieces.append(Piece((piece.start[0], low - begin, *piece.start[2:]),
                                (piece.shape[0], high - low, *piece.shape[2:]),
                                piece.offset_bytes + (low - piece.start[1]) * piece.strides_bytes[1], piece.strides_bytes))
    return dataclasses.replace(part, name=name, shape=(part.shape[0], end - begin, *part.shape[2:]), pieces=pieces)


def _flat_rows(shape: tuple[int, ...], piece: Piece, begin: int, end: int) -> Iterator[Piece]:
    """The same of a range of the flattened tensor (FSDP1), which may begin and end anywhere: a range in each expert."""
    row, first, last = math.prod(shape[2:]), piece.start[0], piece.start[0] + piece.shape[0]
    expert, taken = shape[1] * row, (end - begin) * row  # elements of an expert, and of these rows of it
    for index in range(first // expert, -(-last // expert)):
        rows = index * expert + begin * row  # where this expert's rows begin in the flattened tensor
        low, high = max(first, rows), min(last, rows + taken)
        if low < high:
            yield Piece((index * taken + low - rows,), (high - low,),
                        piece.offset_bytes + (low - first) * piece.strides_bytes[0], piece.strides_bytes, True)
