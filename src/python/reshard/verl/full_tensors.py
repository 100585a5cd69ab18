# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Full tensors, one by one, from actor rank 0: for trainers that give nothing else. One bucket is moved again and again."""
from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Generator
from typing import Any

import reshard
import torch

from .memory import DTYPES, tensor_of

ALIGNMENT = 64  # bytes, of a chunk within the bucket
HEADER_BYTES = 8
NAMES = {kind: name for name, kind in DTYPES.items()}
Chunk = tuple[str, tuple[int, ...], str, int, int, int]  # name, shape, dtype; place in tensor and bucket, bytes


class FullTensors:
    """Collective over the comm. Tensors larger than the bucket come in chunks."""

    def __init__(self, comm: reshard.Comm, num_actors: int, bucket_size: int, device: int | None, timeout: float):
        self._comm, self._size, self._timeout = comm, -(-bucket_size // ALIGNMENT) * ALIGNMENT, timeout
        src, dst = reshard.LayoutBuilder(comm.size), reshard.LayoutBuilder(comm.size)
        for builder, ranks in ((src, [0]), (dst, list(range(num_actors, comm.size)))):
            builder.tensor("bucket", (self._size,), "U8")
            builder.place("bucket", ranks, [reshard.Replicate()])
        place = "cpu" if device is None else f"cuda:{device}"
        self._bucket = torch.empty(0 if 0 < comm.rank < num_actors else self._size, dtype=torch.uint8, device=place)
        mine = {"bucket": self._bucket}
        self.session = reshard.Session(reshard.plan(src.build(), dst.build()), comm, mine if comm.rank == 0 else None,
                                       mine if comm.rank >= num_actors else None, timeout=timeout)

    def send(self, weights: Any) -> dict[str, float]:
        """An actor's part. Every actor takes each tensor from `weights`, which gathers it, in step with rank 0, which alone
        sends."""
        began, sent, used = time.perf_counter(), 0, 0
        chunks: list[Any] = []
        for name, tensor in _iterated(weights):
            flat = tensor.detach().contiguous().view(-1).view(torch.uint8)
            for done, size in self._cut(flat.numel(), used):
                if used == self._size:
                    self._move(chunks)
                    used, chunks = 0, []
                if self._comm.rank == 0:
                    self._bucket[used:used + size].copy_(flat[done:done + size])
                chunks.append((name, tuple(tensor.shape), NAMES[tensor.dtype], done, used, size))
                sent += size
                used = min(self._size, used + -(-size // ALIGNMENT) * ALIGNMENT)
        if chunks:
            self._move(chunks)
        self._move([])
        return {"reshard/bytes_sent": float(0 if self._comm.rank else sent), "reshard/seconds": time.perf_counter() - began}

    def _cut(self, size_bytes: int, used: int) -> Generator[tuple[int, int], None, None]:
        """(first byte, bytes) of the chunks of a tensor: to the end of the bucket, and on in the next."""
        done = min(size_bytes, self._size - used)
        if done or not size_bytes:
            yield 0, done
        while done < size_bytes:
            size = min(size_bytes - done, self._size)
            yield done, size
            done += size

    def _move(self, chunks: list[Chunk] | None) -> list[Chunk]:
        """Moves the bucket, and, to those that do not know, what is in it. [] ends the update. Rank 0's word counts."""
        data = json.dumps(chunks).encode() if self._comm.rank == 0 else b""
        sizes = self._comm.allgather(len(data).to_bytes(HEADER_BYTES, "little"), self._timeout)
        told = json.loads(self._comm.allgather(data.ljust(int.from_bytes(sizes[0], "little"), b" "), self._timeout)[0])
        if told:
            self.session.run(timeout=self._timeout).finish()
        return told

    def receive(self) -> Generator[tuple[str, torch.Tensor], None, None]:
        """A rollout worker's part: (name, tensor), valid until the next one is asked for."""
        memory = reshard.Memory(self._bucket.data_ptr(), self._size,
                                self._bucket.device.index if self._bucket.is_cuda else None, owner=self._bucket)
        parts: torch.Tensor | None = None  # of a tensor that comes in chunks
        while chunks := self._move(None):
            for name, shape, dtype, done, place, size in chunks:
                whole = torch.Size(shape).numel() * DTYPES[dtype].itemsize
                if size == whole:
                    yield name, tensor_of(memory, place, shape, dtype)
                    continue
                if parts is None:
                    parts = torch.empty(whole, dtype=torch.uint8, device=self._bucket.device)
                parts[done:done + size].copy_(self._bucket[place:place + size])
                if done + size == whole:
                    yield name, parts.view(DTYPES[dtype]).view(shape)
                    parts = None

    def close(self) -> None:
        self.session.close()


def _iterated(weights: Any) -> Any:
    """The items of an iterator or of an async one, which is run to its end in a loop of its own."""
    if not hasattr(weights, "__aiter__"):
        return weights

    def items() -> Any:
        loop, iterator = asyncio.new_event_loop(), weights.__aiter__()
        try:
            while True:
                try:
                    yield loop.run_until_complete(iterator.__anext__())
                except StopAsyncIteration:
                    return
        finally:
            loop.close()

    return items()
