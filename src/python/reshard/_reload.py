# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""A binding for a server: layers land in scratch of the few that are open, and are committed to where they stay."""
from __future__ import annotations

from contextlib import suppress
from typing import Any, Iterator, NamedTuple, Sequence

from ._comm import Comm
from ._errors import Error
from ._library import chars, check, ffi, lib, microseconds, struct, structs
from ._memory import Memory, memory_of
from ._plan import Plan
from ._session import STATS, Arrays, buffers_of, set_buffers, stream_pointer

STATES = ("unchanged", "complete", "torn")  # by the number of reshard_layer_state_t


class Layer(NamedTuple):
    """A group that has landed. Its memory is the reload's until it is committed, and may be read and changed till then."""

    group: int
    buffers: dict[str, Memory]  # the destination buffers of the group, by name
    outputs: list[Memory]  # scratch to be filled, in the order in which Reload was given the group's outputs


class Reload:
    """Collective over the comm, as Session, with the same errors: either every rank has one, or none.

    plan: with open_groups, so many layers of scratch are allocated; without, all of them. src: as of Session.
    dst: where each destination buffer of this rank stays, by name or id. None in place of an array: it lies in scratch
    alone. A dict without a buffer means the same. device: of scratch alone, the CUDA device; None: memory of the host.
    outputs: (group, array) that this rank fills out of a layer: packed weights, their scales; written when it is committed.
    lands_directly: buffers that stay somewhere are written there, with no scratch and no copy; a run that fails may leave
    those of open layers torn.
    """

    def __init__(self, plan: Plan, comm: Comm, src: Arrays | None = None, dst: Arrays | None = None, *,
                 outputs: Sequence[tuple[int, Any]] = (), device: int | None = None, lands_directly: bool = False,
                 timeout: float = 60.0):
        self.comm, self._device = comm, device
        desc = struct("reload_desc")
        desc.comm = comm.handle
        try:
            desc.timeout_us, desc.lands_directly = microseconds(timeout), int(lands_directly)
            self._src = buffers_of(plan.src, comm.rank, src, "src")
            self._dst = buffers_of(plan.dst, comm.rank, dst, "dst", in_scratch=True, device=device)
            self._outputs = _outputs(outputs)
        except (Error, ValueError):
            lib.reshard_reload_create(desc, ffi.new("reshard_reload_t*"))  # without a plan: tells the other ranks
            raise
        desc.plan = plan.handle
        set_buffers(desc, self._src, self._dst)
        desc.num_outputs, desc.outputs = len(outputs), self._outputs[0]
        out = ffi.new("reshard_reload_t*")
        check(lib.reshard_reload_create(desc, out))
        self.handle = ffi.gc(out[0], lib.reshard_reload_destroy)
        self._adopt(plan)

    def _adopt(self, plan: Plan) -> None:
        self.plan = plan
        self._names = {buffer.id: buffer.name for buffer in plan.dst.buffers(self.comm.rank)}

    def update(self, plan: Plan, src: Arrays | None = None, dst: Arrays | None = None, *,
               outputs: Sequence[tuple[int, Any]] | None = None, timeout: float = 60.0) -> None:
        """Goes on to another plan of the same ranks, such as Plan.update makes after a new table of experts. Collective:
        on every rank or on none, and where one rank cannot, all keep the reload that they have. What was committed is
        served on, and the scratch is used again where the plan's open layers fit into it.

        src, dst: only arrays that lie elsewhere than before (dst: None for one that lies in scratch alone now), and those
        of buffers that the older plan has not got; all others stay bound. outputs: all of them; None or empty: those that
        it has. timeout: seconds, for the exchange with the other ranks.

        Raises what Reload raises, among it PlanMismatch where a rank comes with a stale table; InvalidState in a run;
        InvalidArgument where other ranks make a reload meanwhile.
        """
        desc = struct("reload_desc")
        try:
            desc.timeout_us = microseconds(timeout)
            to_src = buffers_of(plan.src, self.comm.rank, src, "src", kept=self._src.held)
            to_dst = buffers_of(plan.dst, self.comm.rank, dst, "dst", in_scratch=True, device=self._device,
                                kept=self._dst.held)
            to_outputs = _outputs(outputs) if outputs else self._outputs
        except (Error, ValueError):
            lib.reshard_reload_update(self.handle, desc)  # without a plan: tells the other ranks
            raise
        desc.plan = plan.handle
        set_buffers(desc, to_src, to_dst)
        if outputs:
            desc.num_outputs, desc.outputs = len(outputs), to_outputs[0]
        check(lib.reshard_reload_update(self.handle, desc))
        self._src, self._dst, self._outputs = to_src, to_dst, to_outputs
        self._adopt(plan)

    def run(self, stream: Any = None, timeout: float = 60.0) -> Iterator[Layer]:
        """One run, layer by layer. Each is committed when the loop asks for the next, and the run is finished at the end.

            for layer in reload.run(): pack(layer.buffers["w"])

        A loop that is left, or whose body raises, gives the run up on all ranks; its open layer stays as it was.
        Ranks that only give iterate over nothing. timeout: seconds, for each layer and for the end.
        """
        self.start(stream)
        try:
            while (layer := self.next(timeout)) is not None:
                yield layer
                self.commit(layer.group, stream)
        except BaseException as problem:
            self.give_up(str(problem) or "its loop over the layers was left")
            with suppress(Error):  # what failed first is raised
                self.finish(timeout)
            raise
        self.finish(timeout)

    def start(self, stream: Any = None) -> None:
        """Starts a run; after it, whatever fails, comes finish(). Collective."""
        check(lib.reshard_reload_start(self.handle, stream_pointer(stream)))

    def next(self, timeout: float = 60.0) -> Layer | None:
        """Blocks until the next layer has landed; None after the last. timeout: seconds."""
        layer, has_layer = struct("reload_layer"), ffi.new("int32_t*")
        check(lib.reshard_reload_next(self.handle, microseconds(timeout), layer, has_layer))
        if not has_layer[0]:
            return None
        buffers = {self._names[layer.buffers[i].id]: self._memory(layer.buffers[i]) for i in range(layer.num_buffers)}
        return Layer(layer.group, buffers, [self._memory(layer.outputs[i]) for i in range(layer.num_outputs)])

    def _memory(self, buffer: Any) -> Memory:
        device = buffer.device if buffer.memory == lib.RESHARD_MEMORY_CUDA else None
        return Memory(int(ffi.cast("uintptr_t", buffer.ptr)), buffer.size_bytes, device, True, self)

    def commit(self, group: int, stream: Any = None) -> None:
        """Copies a layer to where it stays; its scratch is another's from then on. stream: for CUDA memory."""
        check(lib.reshard_reload_commit(self.handle, group, stream_pointer(stream)))

    def give_up(self, reason: str) -> None:
        """This rank cannot go on; its peers are told why (GivenUp). Layers that are not committed stay as they were."""
        check(lib.reshard_reload_give_up(self.handle, chars(reason.replace("\0", " "))))

    def finish(self, timeout: float = 60.0) -> None:
        """Ends the run: it went well on all ranks or on none. Collective. Raises what the first rank that failed says."""
        check(lib.reshard_reload_finish(self.handle, microseconds(timeout)))

    def state(self, group: int) -> str:
        """Of a layer on this rank: "unchanged" since before the last run, "complete", or "torn" (lands_directly)."""
        out = ffi.new("reshard_layer_state_t*")
        check(lib.reshard_reload_get_state(self.handle, group, out))
        return STATES[int(out[0])]

    @property
    def stats(self) -> dict[str, int]:
        """As of Session, and open_bytes: memory of the layers that may be open."""
        filled, scratch = struct("binding_stats"), ffi.new("int64_t*")
        check(lib.reshard_reload_get_stats(self.handle, filled, scratch))
        return {**{name: getattr(filled, name) for name in STATS}, "open_bytes": scratch[0]}

    def close(self) -> None:
        """Frees it, scratch and layers that were handed out included; not collective."""
        ffi.release(self.handle)


def _outputs(outputs: Sequence[tuple[int, Any]]) -> tuple[Any, list[Memory]]:
    filled, memories = structs("reload_output", len(outputs)), [memory_of(array) for _, array in outputs]
    for index, ((group, _), memory) in enumerate(zip(outputs, memories)):
        filled[index].group, filled[index].size_bytes = group, memory.size_bytes
        filled[index].ptr = ffi.cast("void*", memory.ptr)
    return filled, memories
