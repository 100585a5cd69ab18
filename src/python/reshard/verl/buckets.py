# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Shards of the actors to whole tensors at the rollouts, a bucket of them at a time.

A bucket is a group of the plan, and lies in scratch of a reshard.Reload: while its tensors are with the rollout, the next
one arrives.
"""
from __future__ import annotations

import math
import time
from collections.abc import Generator
from typing import Any, NamedTuple

import reshard
import torch

from .memory import tensor_of
from .shards import Shards, Tensor

ALIGNMENT = 64  # bytes, of a tensor within its bucket
OPEN_BUCKETS = 2
STACKED_IN_FILES = ("gpt_oss", "llama4_text")  # families whose files, too, keep experts in one tensor


class Settings(NamedTuple):
    """Of an update, the same on all ranks."""

    mode: str  # "shards" or "full"
    bucket_size: int  # bytes
    dtype: str  # of what arrives; "": as it is sent
    model_type: str  # transformers' name of the family; "" where it is not known


class Buckets:
    """Collective over the comm. keys: what the engine knows all ranks' shards by. device: of a rollout's buckets."""

    def __init__(self, comm: reshard.Comm, num_actors: int, shards: Shards | None, keys: list[bytes], settings: Settings,
                 device: int | None, timeout: float):
        self.keys, self._timeout, self._model_type = keys, timeout, settings.model_type
        bucket, self._place = _packed(_known_to_all(comm, shards, timeout), settings)
        local, memories = shards.layout(comm.rank, comm.size, bucket.__getitem__) if shards else (_nothing(comm), {})
        src = local.exchange(comm, timeout)
        self.plan = reshard.plan(src, self._destination(comm, num_actors, src, settings.dtype), open_groups=OPEN_BUCKETS)
        is_rollout = comm.rank >= num_actors
        self.reload = reshard.Reload(self.plan, comm, memories, device=device if is_rollout else _device(memories),
                                     timeout=timeout)

    def _destination(self, comm: reshard.Comm, num_actors: int, src: reshard.Layout, dtype: str) -> reshard.Layout:
        """Every tensor whole on every rollout worker, one buffer per bucket."""
        builder, rollouts = reshard.LayoutBuilder(comm.size), list(range(num_actors, comm.size))
        for tensor in src.tensors:
            builder.tensor(tensor.name, tensor.shape, _arriving(tensor.dtype, dtype), tensor.group)
            builder.place(tensor.name, rollouts, [reshard.Replicate()], buffer=str(tensor.group),
                          offset_bytes=self._place[tensor.name])
        return builder.build()

    def send(self) -> dict[str, float]:
        """An actor's part of an update. Returns what this rank gave, in bytes."""
        began = time.perf_counter()
        for _ in self.reload.run(timeout=self._timeout):
            raise AssertionError("an actor receives nothing")
        stats = self.reload.stats
        return {"reshard/bytes_sent": float(stats["bytes_sent"]), "reshard/seconds": time.perf_counter() - began}

    def receive(self) -> Generator[tuple[str, torch.Tensor], None, None]:
        """A rollout worker's part: (name, tensor), views of the bucket. Experts that transformers keeps stacked come one by
        one, under the names of files, as verl's own engines give them."""
        by_bucket: dict[int, list[Any]] = {}
        for tensor in self.plan.dst.tensors:
            by_bucket.setdefault(tensor.group, []).append(tensor)
        for layer in self.reload.run(timeout=self._timeout):
            memory = layer.buffers[str(layer.group)]
            tensors = ((tensor.name, tensor_of(memory, self._place[tensor.name], tensor.shape, tensor.dtype))
                       for tensor in by_bucket[layer.group])
            yield from _by_expert(tensors, self._model_type)

    def close(self) -> None:
        self.reload.close()


def _known_to_all(comm: reshard.Comm, shards: Shards | None, timeout: float) -> list[Tensor]:
    """Every rank's tensors, each once, in one order."""
    builder = reshard.LayoutBuilder(comm.size)
    for name, shape, dtype in shards.tensors() if shards else []:
        builder.tensor(name, shape, dtype)
    return [(tensor.name, tensor.shape, tensor.dtype) for tensor in builder.build().exchange(comm, timeout).tensors]


def _arriving(dtype: str, wanted: str) -> str:
    """Weights arrive as wanted; what is not of floating point stays as it is."""
    return wanted if wanted and dtype in ("F64", "F32", "F16", "BF16") else dtype


def _packed(tensors: list[Tensor], settings: Settings) -> tuple[dict[str, int], dict[str, int]]:
    """({name: bucket}, {name: offset in it}), filled in order; a tensor larger than a bucket has one of its own."""
    bucket: dict[str, int] = {}
    place: dict[str, int] = {}
    number = used = 0
    for name, shape, dtype in tensors:
        size_bytes = math.prod(shape) * reshard.dtype_size_bytes(_arriving(dtype, settings.dtype))
        if used and used + size_bytes > settings.bucket_size:
            number, used = number + 1, 0
        bucket[name], place[name] = number, used
        used += -(-size_bytes // ALIGNMENT) * ALIGNMENT
    return bucket, place


def _nothing(comm: reshard.Comm) -> reshard.Layout:
    return reshard.LayoutBuilder(comm.size).build()


def _device(memories: dict[str, reshard.Memory]) -> int | None:
    return next((memory.device for memory in memories.values()), None)


def _by_expert(tensors: Any, model_type: str) -> Generator[tuple[str, torch.Tensor], None, None]:
    """Stacked experts one by one: "x.mlp.experts.gate_up_proj" and "down_proj" of transformers 5, of [E, 2 ffn, hidden] and
    [E, hidden, ffn], and "x.mlp.experts.gate_proj.weight" of reshard.megatron, of [E, ...]."""
    for name, tensor in tensors:
        prefix, is_expert, projection = name.partition(".experts.")
        projection = projection.removesuffix(".weight")
        if not is_expert or tensor.dim() != 3 or model_type in STACKED_IN_FILES:
            yield name, tensor
            continue
        parts = {projection: tensor}
        if projection == "gate_up_proj":
            parts = dict(zip(("gate_proj", "up_proj"), tensor.chunk(2, dim=1)))
        for expert in range(tensor.shape[0]):
            for part, stacked in parts.items():
                yield f"{prefix}.experts.{expert}.{part}.weight", stacked[expert]
