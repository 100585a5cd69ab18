# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""A plan bound to a comm and to this rank's memory: bound once, run after every change of the values."""
from __future__ import annotations

import time
from typing import Any, Mapping, NamedTuple

from ._comm import Comm
from ._errors import InvalidArgument
from ._layout import Layout
from ._library import check, ffi, lib, microseconds, struct, structs, text, value
from ._memory import Memory, fill_buffer, memory_of
from ._plan import Plan

DRIVERS = ("auto", "poll", "nccl")  # by the number of reshard_driver_t
STATS = ("bytes_same_rank", "bytes_mapped", "bytes_sent", "bytes_received", "messages_sent", "staging_bytes", "num_runs",
         "num_groups_complete", "scratch_bytes")
POLL_SECONDS = 2e-5
Arrays = Mapping[Any, Any]


class Buffers(NamedTuple):
    """Of one side of a rank, for a call that binds."""

    filled: Any  # reshard_buffer_t[]
    count: int
    held: dict[tuple[int, str], Memory]  # by id and name: what must live while it is bound, also what a call leaves as it was


def buffers_of(layout: Layout, rank: int, arrays: Arrays | None, side: str, *, in_scratch: bool = False,
               device: int | None = None, kept: Mapping[tuple[int, str], Memory] | None = None) -> Buffers:
    """The buffers of a rank, which `arrays` has by name or by id. A buffer of no bytes need not be there, nor one of `kept`,
    as which it stays. in_scratch: none need be, those that are not lie in the scratch of a reload, on `device`."""
    wanted, given = layout.buffers(rank), dict(arrays or {})
    names = [buffer.name for buffer in wanted]
    filled, count, held = structs("buffer", len(wanted)), 0, {}
    for buffer in wanted:
        if names.count(buffer.name) > 1 and buffer.name in given:
            raise InvalidArgument(f"rank {rank} has several {side} buffers {buffer.name!r}; give their ids: {buffer.id}, ...")
        key = buffer.name if buffer.name in given else buffer.id
        identity = (buffer.id, buffer.name)
        if key not in given and kept is not None and identity in kept:
            held[identity] = kept[identity]
            continue
        if key not in given and buffer.size_bytes and not in_scratch:
            raise InvalidArgument(f"rank {rank} brings no memory for the {side} buffer {buffer.name!r} of "
                                  f"{buffer.size_bytes} bytes; give {side}={{name: array}}")
        if key not in given or (in_scratch and given[key] is None):
            memory = Memory(0, buffer.size_bytes, device) if in_scratch else Memory(0, 0)
            given.pop(key, None)
        else:
            memory = memory_of(given.pop(key))
        if side == "dst" and not memory.is_writable:
            raise InvalidArgument(f"the memory of the dst buffer {buffer.name!r} is read-only")
        fill_buffer(filled[count], buffer.id, memory)
        held[identity] = memory
        count += 1
    if given:
        raise InvalidArgument(f"rank {rank} has no {side} buffers {list(given)}; it has {names}")
    return Buffers(filled, count, held)


def set_buffers(desc: Any, src: Buffers, dst: Buffers) -> None:
    """Both sides of a description of a binding or of a reload."""
    desc.num_src_buffers, desc.src_buffers = src.count, src.filled
    desc.num_dst_buffers, desc.dst_buffers = dst.count, dst.filled


def stream_pointer(stream: Any) -> Any:
    """A cudaStream_t: of an int, or of torch's, CuPy's or numba's stream. None: CUDA's default stream, or host memory."""
    if stream is None:
        return ffi.NULL
    for attribute in ("cuda_stream", "ptr", "handle"):
        stream = getattr(stream, attribute, stream)
    return ffi.cast("void*", int(getattr(stream, "value", stream) or 0))


class Session:
    """Collective over the comm: either every rank has a session, or none.

    plan, comm: of as many ranks; the session keeps what it needs of them. src, dst: this rank's memory in the plan's
    source and destination layouts, buffer name (or id) -> array: anything with DLPack, numpy's or CUDA's array interface
    or the buffer protocol, row-major without gaps, or a reshard.Memory; host or CUDA, the same on all of a rank. Arrays
    are referenced, not copied: destinations are written in place.
    timeout: seconds, for the exchange with the other ranks. driver: "auto", "poll" or "nccl". nccl_comm: address of the
    caller's ncclComm_t. capturable, max_ctas, traffic_class, device: as in reshard_binding_desc_t.

    Raises InvalidArgument (missing, unknown, overlapping or read-only memory), BufferTooSmall, LayoutMismatch,
    PlanMismatch, OutOfMemory, Timeout, PeerFailed, NotSupported; on every rank when one rank has it.
    """

    def __init__(self, plan: Plan, comm: Comm, src: Arrays | None = None, dst: Arrays | None = None, *,
                 timeout: float = 60.0, driver: str = "auto", nccl_comm: int = 0, capturable: bool = False,
                 max_ctas: int = 0, traffic_class: int = -1, device: int = -1):
        self.comm = comm
        desc = struct("binding_desc")
        desc.comm = comm.handle
        try:
            desc.timeout_us = microseconds(timeout)
            if driver not in DRIVERS:
                raise InvalidArgument(f"driver is {driver!r}; give one of {', '.join(DRIVERS)}")
            self._src = buffers_of(plan.src, comm.rank, src, "src")
            self._dst = buffers_of(plan.dst, comm.rank, dst, "dst")
        except Exception:
            lib.reshard_binding_create(desc, ffi.new("reshard_binding_t*"))  # without a plan: tells the other ranks
            raise
        desc.plan, desc.driver = plan.handle, DRIVERS.index(driver)
        set_buffers(desc, self._src, self._dst)
        desc.nccl_comm, desc.capturable = ffi.cast("void*", nccl_comm), int(capturable)
        desc.max_ctas, desc.traffic_class, desc.device = max_ctas, traffic_class, device
        out = ffi.new("reshard_binding_t*")
        check(lib.reshard_binding_create(desc, out))
        self.handle = ffi.gc(out[0], lib.reshard_binding_destroy)
        self._adopt(plan)

    def _adopt(self, plan: Plan) -> None:
        self.plan = plan
        self._num_groups = plan.num_groups
        self._order = plan.groups if plan.order == "fixed" else []  # this rank's order of groups, once it is known
        self._groups = ffi.new("int64_t[]", max(1, self._num_groups))
        self._count, self._is_complete = ffi.new("int64_t*"), ffi.new("int32_t*")

    def update(self, plan: Plan, src: Arrays | None = None, dst: Arrays | None = None, *, timeout: float = 60.0) -> None:
        """Goes on to another plan of the same ranks, such as Plan.update makes after a new table of experts. Collective:
        on every rank or on none, and where one rank cannot, all keep the session that they have.

        src, dst: only arrays that lie elsewhere than before, and those of buffers that the older plan has not got; all
        others stay bound. timeout: seconds, for the exchange with the other ranks.

        Raises what Session raises, among it PlanMismatch where a rank comes with a stale table; InvalidState in a run;
        InvalidArgument where other ranks make a session meanwhile.
        """
        desc = struct("binding_desc")
        try:
            desc.timeout_us = microseconds(timeout)
            to_src = buffers_of(plan.src, self.comm.rank, src, "src", kept=self._src.held)
            to_dst = buffers_of(plan.dst, self.comm.rank, dst, "dst", kept=self._dst.held)
        except Exception:
            lib.reshard_binding_update(self.handle, desc)  # without a plan: tells the other ranks
            raise
        desc.plan = plan.handle
        set_buffers(desc, to_src, to_dst)
        check(lib.reshard_binding_update(self.handle, desc))
        self._src, self._dst = to_src, to_dst
        self._adopt(plan)

    def run(self, stream: Any = None, timeout: float = 60.0) -> Run:
        """Starts a run, and returns at once. Collective: every rank starts each run.

        The Run that is returned is an iterator over groups as they are complete on this rank, after which the run is
        finished; or call its finish() alone. Sources must not change until then; the tensors of a group that was handed
        out may be used at once.

            for group in session.run(): ...        session.run().finish()

        stream: for CUDA memory, the stream that the run is ordered after (an int, or torch's); None: CUDA's default
        stream. None for host memory. timeout: seconds from now, for all of the run.
        Raises InvalidState when the last run was not finished: one that was left in the middle of its groups wants
        Session.finish().
        """
        check(lib.reshard_binding_start(self.handle, stream_pointer(stream)))
        return Run(self, time.monotonic() + timeout)

    def finish(self, timeout: float = 60.0) -> None:
        """Blocks until the run is complete and no peer reads this rank's source any more. timeout: seconds.

        Raises Timeout, PeerFailed, TransportError, Abandoned; the run is then given up on this rank, peers are told,
        groups that were complete stay valid, and all ranks may run again from good sources.
        """
        check(lib.reshard_binding_finish(self.handle, microseconds(timeout)))

    def poll(self) -> tuple[list[int], bool]:
        """Moves the run on without waiting: (groups that are complete, in this rank's order; whether all is)."""
        check(lib.reshard_binding_poll(self.handle, self._num_groups, self._groups, self._count, self._is_complete))
        return list(self._groups[0:self._count[0]]), bool(self._is_complete[0])

    def wait_group(self, group: int, timeout: float = 60.0) -> None:
        """Blocks until every tensor of a group is complete on this rank, and all groups before it. timeout: seconds."""
        check(lib.reshard_binding_wait_group(self.handle, group, microseconds(timeout)))

    def group_event(self, group: int) -> int:
        """Address of the cudaEvent_t that another stream waits for before it uses a group's tensors; the session's own."""
        return int(ffi.cast("uintptr_t", value("void*", lib.reshard_binding_get_group_event, self.handle, group)))

    def verify(self, timeout: float = 60.0) -> None:
        """Compares hashes of sources and destinations after a run. Collective; host memory only. Raises DataMismatch."""
        check(lib.reshard_binding_verify(self.handle, microseconds(timeout)))

    @property
    def driver(self) -> tuple[str, str]:
        """("poll" or "nccl", why)."""
        number, reason = ffi.new("reshard_driver_t*"), ffi.new("const char**")
        check(lib.reshard_binding_get_driver(self.handle, number, reason))
        return DRIVERS[number[0]], text(reason[0])

    @property
    def stats(self) -> dict[str, int]:
        """Counters of this rank, as in reshard_binding_stats_t: bytes_sent, bytes_mapped, staging_bytes, num_runs, ..."""
        filled = struct("binding_stats")
        check(lib.reshard_binding_get_stats(self.handle, filled))
        return {name: getattr(filled, name) for name in STATS}

    def close(self) -> None:
        """Frees it; not collective. A run that is under way is abandoned, and peers that need this rank are told."""
        ffi.release(self.handle)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_problem: Any) -> None:
        self.close()


class Run:
    """A run under way: an iterator over its groups, which ends when the run is finished."""

    def __init__(self, session: Session, deadline: float):
        self._session, self._deadline = session, deadline
        self._known = 0  # groups that the last poll found complete
        self._given = 0  # groups that were handed out
        self._is_finished = False

    def _left_us(self) -> int:
        """Until the deadline; one that has passed still lets what is complete be found."""
        left = self._deadline - time.monotonic()
        return microseconds(left) if left > 1e-6 else 1

    def __iter__(self) -> Run:
        return self

    def __next__(self) -> int:
        session = self._session
        if self._given == session._num_groups:
            self.finish()
            raise StopIteration
        if self._given == self._known:
            self._wait()
        group: int = session._groups[self._given]
        self._given += 1
        return group

    def _wait(self) -> None:
        """Until a group more is complete: all that are become known in one call."""
        session = self._session
        self._poll()
        if self._known == self._given and session._order:
            check(lib.reshard_binding_wait_group(session.handle, session._order[self._given], self._left_us()))
            self._poll()
        while self._known == self._given:  # the plan chose an order that is not known before the first run
            left_us = self._left_us()
            if left_us == 1:
                self._session.finish(1e-6)  # raises, naming what is missing
            time.sleep(POLL_SECONDS)
            self._poll()
        if self._known == session._num_groups:
            session._order = list(session._groups[0:self._known])

    def _poll(self) -> None:
        session = self._session
        check(lib.reshard_binding_poll(session.handle, session._num_groups, session._groups, session._count, ffi.NULL))
        self._known = session._count[0]

    def finish(self) -> None:
        """Blocks until the run is complete, as Session.finish, by the run's own deadline. Once is enough."""
        if not self._is_finished:
            self._is_finished = True  # also when it fails: the run is given up then
            check(lib.reshard_binding_finish(self._session.handle, self._left_us()))
