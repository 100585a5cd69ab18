# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""A checkpoint engine for verl: what trainers hold, in whatever pieces, to the workers of the rollouts.

All actor ranks take part, each with its own shards, where the worker hands over its training engine
(reshard.verl.ShardSender). A stock worker hands over full tensors one by one, gathered on every actor rank; then rank 0
sends those, and a warning says so. A rollout worker gets whole tensors in both cases, because that is what verl's rollouts
take; they arrive bucket by bucket, so that it never holds more than two buckets of them.
"""
from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncGenerator
from typing import Any, Iterable

import ray
import reshard
import torch
from verl.checkpoint_engine import CheckpointEngine, CheckpointEngineRegistry

from .buckets import Buckets, Settings
from .full_tensors import FullTensors
from .shards import Shards, shards_of

logger = logging.getLogger("reshard.verl")
SETTINGS_BYTES = 256  # of what each rank says of an update before it


@CheckpointEngineRegistry.register("reshard")
class ReshardCheckpointEngine(CheckpointEngine):
    """Made by verl on every actor and rollout worker; the ranks, plans and memory of the last update are kept.

    bucket_size: bytes of tensors that a rollout worker holds at once, of which there may be two; a larger tensor is a
    bucket of its own. is_master: whether this is actor rank 0. dtype: of what arrives, e.g. "BF16" for trainers with fp32
    weights, converted before it is sent; None: the trainer's. timeout: seconds, for each step of an update.
    device: CUDA device of a rollout worker's buckets; "auto": the current one where there is any; None: the host.
    """

    def __init__(self, bucket_size: int, is_master: bool = False, dtype: Any = None, timeout: float = 600.0,
                 device: Any = "auto"):
        if bucket_size < 1:
            raise reshard.InvalidArgument(f"bucket_size is {bucket_size} bytes")
        self.bucket_size, self.is_master, self.dtype, self.timeout = bucket_size, is_master, dtype, timeout
        self.device = (torch.cuda.current_device() if torch.cuda.is_available() else None) if device == "auto" else device
        self.comm: reshard.Comm | None = None
        self._token = ""  # of the comm that is kept, the same on all of its ranks
        self._spare_id: bytes | None = None  # of the next comm; the master's alone
        self._buckets: Buckets | None = None
        self._full: FullTensors | None = None
        self._num_actors = 0
        self._warned: set[str] = set()

    # ---------------------------------------------------------------------------------------- what the manager calls

    def prepare(self) -> dict[str, Any]:
        """What build_topology is told: which comm this rank has, and, of the master, the id of the next one."""
        if self.is_master and self._spare_id is None:
            self._spare_id = reshard.unique_id(ray.util.get_node_ip_address())
        rank, size = (self.comm.rank, self.comm.size) if self.comm else (-1, 0)
        return {"unique_id": self._spare_id, "token": self._token, "rank": rank, "size": size}

    @classmethod
    def build_topology(cls, actor_wg_world_size: int, rollout_world_size: int,
                       metadata: list[dict[str, Any]]) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        """Ranks 0, 1, ... are the actors, then the rollout workers. The comm that all of them have is kept."""
        size = actor_wg_world_size + rollout_world_size
        ids = [data["unique_id"] for data in metadata if data["unique_id"]]
        if len(metadata) != size or len(ids) != 1:
            raise reshard.InvalidArgument(f"{len(metadata)} workers of {size}, {len(ids)} of them masters; "
                                          "actor rank 0 must be the one that is made with is_master")
        token = metadata[0]["token"]
        is_kept = token and all((data["token"], data["rank"], data["size"]) == (token, rank, size)
                                for rank, data in enumerate(metadata))
        common = {"world_size": size, "num_actors": actor_wg_world_size, "unique_id": b"" if is_kept else ids[0]}

        def of(ranks: Iterable[int]) -> dict[str, list[Any]]:
            ranks = list(ranks)
            return {"rank": ranks, **{key: [value] * len(ranks) for key, value in common.items()}}

        return of(range(actor_wg_world_size)), of(range(actor_wg_world_size, size))

    def init_process_group(self, rank: int, world_size: int, num_actors: int, unique_id: bytes) -> None:
        """Joins the ranks, unless they are kept."""
        self._num_actors = num_actors
        if not unique_id:
            return
        self._close()
        if unique_id == self._spare_id:
            self._spare_id = None
        self.comm = reshard.Comm.from_unique_id(unique_id, rank, world_size, timeout=self.timeout)
        self._token = hashlib.sha256(unique_id).hexdigest()  # not the id, which is a secret

    def finalize(self) -> None:
        """Nothing: ranks, plans and two buckets are kept for the next update; `close` frees them."""

    def close(self) -> None:
        """Frees all that is kept. The next update makes it anew."""
        self._close()

    def _close(self) -> None:
        for kept in (self._buckets, self._full, self.comm):
            if kept is not None:
                kept.close()
        self._buckets = self._full = self.comm = None
        self._token = ""

    # -------------------------------------------------------------------------------------------------- an update

    async def send_weights(self, weights: Any, global_steps: int | None = None) -> dict[str, float]:
        """weights: the training engine (its shards are sent), or what its get_per_tensor_param gave (full tensors are).

        Returns metrics of this rank. Raises reshard.Error; then all ranks have failed, and the next update may go well.
        """
        shards, full = None, weights
        if hasattr(weights, "get_per_tensor_param"):
            shards, reason = shards_of(weights)
            if shards is None:
                self._warn(f"full tensors are sent, gathered one by one: {reason}")
                full, _ = weights.get_per_tensor_param()
        else:
            self._warn("full tensors are sent, gathered one by one: the worker is no reshard.verl.ShardSender")
        return await self._in_thread(self._send, shards, full)

    def _send(self, shards: Shards | None, full: Any) -> dict[str, float]:
        settings = self._agree("full" if shards is None else "shards", shards.model_type if shards else "")
        return self._full_tensors(settings).send(full) if shards is None else self._with_shards(settings, shards).send()

    async def receive_weights(self, global_steps: int | None = None) -> AsyncGenerator[tuple[str, torch.Tensor], None]:
        """(name, tensor) of the whole model. A tensor is valid until the next one is asked for."""
        settings = await self._in_thread(self._agree)
        make = self._full_tensors if settings.mode == "full" else self._with_shards
        received = (await self._in_thread(make, settings)).receive()
        try:
            while (item := await self._in_thread(next, received, None)) is not None:
                yield item
        finally:
            await self._in_thread(received.close)

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        """Waiting must not hold up the actor's event loop. One call at a time, as a comm wants it."""
        return await asyncio.to_thread(function, *arguments)

    def _agree(self, mode: str = "", model_type: str = "") -> Settings:
        """What all ranks do in this update: as actor rank 0 has it. The actors must all send in the same mode."""
        if self.comm is None:
            raise reshard.InvalidState("init_process_group has not been called")
        dtype = "" if self.dtype is None else reshard.dtype_name(self.dtype)
        said = json.dumps(Settings(mode, self.bucket_size, dtype, model_type)).encode().ljust(SETTINGS_BYTES)
        told = [Settings(*json.loads(text)) for text in self.comm.allgather(said, self.timeout)]
        modes = [settings.mode for settings in told]
        if len(set(modes[:self._num_actors])) != 1 or any(modes[self._num_actors:]):
            raise reshard.InvalidArgument(f"the actors send {modes[:self._num_actors]}; all must be ShardSenders, or none")
        return told[0]

    def _with_shards(self, settings: Settings, shards: Shards | None = None) -> Buckets:
        """Planned and bound for what the actors hold now: what is kept, where that is the same."""
        assert self.comm is not None
        key = hashlib.sha256(repr((settings, shards.key() if shards else None)).encode()).digest()
        keys = self.comm.allgather(key, self.timeout)
        if self._buckets is None or self._buckets.keys != keys:
            if self._buckets is not None:
                self._buckets.close()
                self._buckets = None
            self._buckets = Buckets(self.comm, self._num_actors, shards, keys, settings, self.device, self.timeout)
        return self._buckets

    def _full_tensors(self, settings: Settings) -> FullTensors:
        assert self.comm is not None
        if self._full is None:
            self._full = FullTensors(self.comm, self._num_actors, settings.bucket_size, self.device, self.timeout)
        return self._full

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            logger.warning("%s", text)
