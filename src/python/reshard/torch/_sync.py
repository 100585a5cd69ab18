# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""From torch modules to sessions: the ranks from a process group, the layouts from what each rank holds."""
from __future__ import annotations

import hashlib
from typing import Any, Mapping, Sequence, Union

import torch
import torch.distributed as dist

from .._comm import Comm, agree
from .._errors import LayoutMismatch
from .._layout import Layout
from .._memory import Memory
from .._plan import plan
from .._session import Session
from ._modules import held_of_module
from ._pieces import GroupOf, Held, held_of_state, layer_of, local_layout, without_ties

State = Union[torch.nn.Module, Mapping[str, Any], None]
CACHED_SESSIONS = 4


def comm(group: Any = None, *, timeout: float = 60.0, net_devices: str | None = None) -> Comm:
    """A Comm of the ranks of a process group, numbered as there. Collective over the group; None: the default group.

    Its addresses travel by the group's all_gather_object, over gloo or NCCL; weights do not. timeout: seconds from when
    all ranks have called this: for one that is late the others wait as long as the group itself does.
    """
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    dist.barrier(group)

    def allgather(data: bytes) -> Sequence[bytes]:
        gathered: list[Any] = [None] * size
        dist.all_gather_object(gathered, data, group=group)
        return gathered

    return Comm.from_callback(allgather, rank, size, timeout=timeout, net_devices=net_devices)


def held(state: State) -> list[Held]:
    """What this rank holds of a module, or of a dict of tensors, DTensors and Locals; nothing for None."""
    if state is None:
        return []
    return held_of_module(state) if isinstance(state, torch.nn.Module) else held_of_state(state)


def layout(state: State, comm: Comm, *, group_of: GroupOf = layer_of, timeout: float = 60.0,
           source: Layout | None = None) -> tuple[Layout, dict[str, Memory]]:
    """(layout of all ranks, this rank's memory for a Session). Collective over the comm; ranks that hold nothing give None.

    state: a module of plain, DTensor, FSDP1 or FSDP2 parameters, or a dict whose values are plain tensors (whole on this
    rank), DTensors or reshard.torch.Local. Memory is referenced, never copied. group_of: completion group of a tensor's
    name. source: for a destination, the layout of its source: of memory with several names, as tied weights have, the first
    that the source has is taken, and the others left out.
    Raises, on every rank when one rank has it: InvalidArgument, NotSupported, InvalidState naming the tensor;
    LayoutMismatch for shapes that differ between ranks.
    """
    problem, made = None, None
    try:
        parts = held(state)
        made = local_layout(parts if source is None else without_ties(parts, source), comm.rank, comm.size, group_of)
    except Exception as error:  # whatever it is, the other ranks must not wait for this one
        problem = error
    agree(comm, problem, timeout)
    assert made is not None
    return made[0].exchange(comm, timeout), made[1]


def session(src: State, dst: State, comm: Comm, *, machine: Any = None, group_of: GroupOf = layer_of,
            timeout: float = 60.0, staging_bytes: int | None = None, driver: str = "auto") -> Session:
    """Binds what this rank holds of a source and of a destination; run it after each change of the values. Collective.

    src, dst: as for `layout`; None on ranks without. Source tensors that the destination has not got are left out.
    Raises LayoutMismatch for a tensor of the destination that the source has not got.
    """
    src_layout, src_memory = layout(src, comm, group_of=group_of, timeout=timeout)
    dst_layout, dst_memory = layout(dst, comm, group_of=group_of, timeout=timeout, source=src_layout)
    made = plan(src_layout, dst_layout, machine, skip_unmatched=True, staging_bytes=staging_bytes)
    missing = [name for side, name in made.unmatched if side == "destination"]
    if missing:
        raise LayoutMismatch(f"the source has no tensor {', '.join(map(repr, missing[:5]))}"
                             f"{f' and {len(missing) - 5} more' if len(missing) > 5 else ''} of the destination")
    return Session(made, comm, src_memory, dst_memory, timeout=timeout, driver=driver)


class Syncer:
    """`sync` on one comm: sessions are kept by what all ranks hold, and made anew when that changes."""

    def __init__(self, comm: Comm):
        self.comm = comm
        self._sessions: dict[bytes, tuple[Session, int | None]] = {}  # the oldest first, the same on every rank

    def sync(self, src: State, dst: State, *, stream: Any = None, timeout: float = 60.0, **options: Any) -> None:
        """Moves the values of src into dst. Collective; see `sync` of this package."""
        problem, digest, device = None, b"", None
        try:
            parts = held(src), held(dst)
            device = next((one.storage.device.index for side in parts for one in side
                           if one.storage.device.type == "cuda"), None)
            keys = repr([[one.key() for one in side] for side in parts])
            digest = hashlib.sha256(keys.encode()).digest()
        except Exception as error:  # whatever it is, the other ranks must not wait for this one
            problem = error
        agree(self.comm, problem, timeout)
        key = hashlib.sha256(b"".join(self.comm.allgather(digest, timeout)) + repr(options).encode()).digest()
        if key not in self._sessions:
            while len(self._sessions) >= CACHED_SESSIONS:
                self._sessions.pop(next(iter(self._sessions)))[0].close()
            self._sessions[key] = session(src, dst, self.comm, timeout=timeout, **options), device
        bound, device = self._sessions[key]
        if stream is None and device is not None:
            stream = torch.cuda.current_stream(device)
        bound.run(stream, timeout).finish()

    def close(self) -> None:
        """Lets go of the sessions, their memory, and the comm."""
        for bound, _ in self._sessions.values():
            bound.close()
        self._sessions.clear()
        self.comm.close()


_syncers: dict[Any, Syncer] = {}


def sync(src: State, dst: State, group: Any = None, *, stream: Any = None, timeout: float = 60.0, **options: Any) -> None:
    """Moves the values of src into dst, in place, whatever the layouts of both. Collective over the process group.

    src: a module (FSDP1, FSDP2, DTensor or plain parameters) or a dict of tensors, DTensors and reshard.torch.Local; None
    on ranks that hold nothing of it. dst: the same. Every tensor of dst is written, in its dtype; names and global shapes
    are those of src, which may have more. stream: for CUDA tensors, the stream whose work comes first; None: torch's
    current stream. Returns when the values are there. timeout: seconds for each step. options: as of `session`.

    The first call plans and binds, and keeps that while all ranks hold the same tensors at the same addresses: at most 4
    such sessions, which keep their tensors alive; `close` lets go of them. A Session does not look at its tensors again,
    and is quicker: `session`.
    """
    key = group if group is not None else dist.group.WORLD
    if key not in _syncers:
        _syncers[key] = Syncer(comm(group, timeout=timeout))
    _syncers[key].sync(src, dst, stream=stream, timeout=timeout, **options)


def close() -> None:
    """Lets go of all that `sync` keeps."""
    while _syncers:
        _syncers.popitem()[1].close()
