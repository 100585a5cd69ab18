# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""A CopyService for Megatron-Core's own `swap_model_weights(src, dst, refit_method=service)`.

Megatron plans; this moves what it submits. Megatron hands over copies of what it sends and temporaries to receive into,
new ones in every swap, so bytes are copied into memory that stays bound, and out of it: `Refit` needs none of that. A
temporary may instead be given the bound memory, in place of its own that nothing was written to yet.
"""
from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import reshard
import torch
from megatron.core.resharding.copy_services.base import CopyService

ALIGNMENT = 16  # bytes, of each tensor within a message, so that it can be looked at in its own dtype
USERS_OF_STORAGE = 2  # of a temporary: the tensor, and the object by which users are counted


class _Operation(NamedTuple):
    key: tuple[int, int]  # (0, task id), or (1, number among those to or from this peer that have none)
    tensor: torch.Tensor


class ReshardCopyService(CopyService):
    """Collects sends and receives; `run` moves them over a session of reshard's, which is kept while sizes stay the same.

    comm: of as many ranks as the default process group, each with its own number; it stays the caller's.
    timeout: seconds, for a run and for each exchange.
    takes_temporaries: tensors to receive into are read after `run` and then dropped, as `swap_model_weights` does, so that
    they may be given memory of the service (Tensor.set_) in place of a copy. Their values are valid until the next run. A
    tensor whose memory somebody else can see, such as a parameter or a view, is copied into all the same.
    """

    def __init__(self, comm: reshard.Comm, timeout: float = 60.0, takes_temporaries: bool = False):
        self.comm, self.timeout, self.takes_temporaries = comm, timeout, takes_temporaries
        self._sends: dict[int, list[_Operation]] = {}  # by peer
        self._recvs: dict[int, list[_Operation]] = {}
        self._link: _Link | None = None
        self._own = torch.empty(0, dtype=torch.uint8)  # memory that temporaries are given for what comes from this rank

    def submit_send(self, src_tensor: torch.Tensor, dest_rank: int) -> None:
        """Sends without an id meet the peer's receives without one in the order in which both were submitted."""
        self._add(self._sends, None, src_tensor.detach(), dest_rank)

    def submit_recv(self, dest_tensor: torch.Tensor, src_rank: int) -> None:
        self._add(self._recvs, None, dest_tensor, src_rank)

    def submit_send_with_id(self, task_id: int, src_tensor: torch.Tensor, dest_rank: int) -> None:
        """A send that meets the receive of the same id. Contiguous; dest_rank may be this rank."""
        self._add(self._sends, task_id, src_tensor.detach(), dest_rank)

    def submit_recv_with_id(self, task_id: int, dest_tensor: torch.Tensor, src_rank: int) -> None:
        self._add(self._recvs, task_id, dest_tensor, src_rank)

    def _add(self, side: dict[int, list[_Operation]], task_id: int | None, tensor: torch.Tensor, peer: int) -> None:
        if not 0 <= peer < self.comm.size:
            raise reshard.InvalidArgument(f"rank {peer} is none of the comm's {self.comm.size}")
        found = side.setdefault(peer, [])
        key = (1, sum(operation.key[0] for operation in found)) if task_id is None else (0, task_id)
        found.append(_Operation(key, tensor))

    def run(self) -> None:
        """Moves all that was submitted. Collective: every rank runs, also one that submitted nothing.

        Raises reshard.InvalidArgument for operations of this rank with itself that do not match, reshard.LayoutMismatch
        where two ranks disagree, reshard.Timeout, reshard.PeerFailed. What was submitted is forgotten in any case.
        """
        sends, recvs = ({peer: sorted(found, key=lambda operation: operation.key) for peer, found in side.items()}
                        for side in (self._sends, self._recvs))
        self._sends, self._recvs = {}, {}
        own = self.comm.rank
        kept = sends.pop(own, []), recvs.pop(own, [])
        link = self._linked(sends, recvs, _own_problem(own, *kept))
        with torch.no_grad():
            self._copy_own(*kept)
            link.run(sends, recvs, self.timeout, self.takes_temporaries)

    def _copy_own(self, sends: list[_Operation], recvs: list[_Operation]) -> None:
        if self.takes_temporaries and recvs:
            device, size_bytes = recvs[0].tensor.device, _places(recvs)[-1]
            if self._own.device != device or self._own.numel() < size_bytes:
                self._own = torch.empty(size_bytes, dtype=torch.uint8, device=device)
            for view, tensor in _views(self._own, recvs):
                if tensor.device == device and _is_temporary(tensor):
                    tensor.set_(view)
        for send, recv in zip(sends, recvs):
            recv.tensor.copy_(send.tensor)

    def _linked(self, sends: Any, recvs: Any, problem: str | None) -> _Link:
        """The link for these sizes: the one there is, if it fits on all ranks, else a new one."""
        wanted = _signature(sends, recvs)
        is_same = self._link is not None and self._link.signature == wanted
        states = self.comm.allgather(b"wrong" if problem else b"same " if is_same else b"other", self.timeout)
        if problem or b"wrong" in states:
            raise reshard.InvalidArgument(problem or f"rank {states.index(b'wrong')} has operations that do not match")
        if self._link is None or b"other" in states:
            self._link = None
            self._link = _Link(self.comm, sends, recvs, wanted, self.timeout)
        return self._link


def _own_problem(rank: int, sends: list[_Operation], recvs: list[_Operation]) -> str | None:
    """What is wrong with operations of a rank with itself."""
    if [send.key for send in sends] != [recv.key for recv in recvs]:
        odd = {send.key for send in sends} ^ {recv.key for recv in recvs}
        return f"rank {rank} and itself: sends and receives {sorted(odd)} ((0, id) or (1, number)) have no partner"
    for send, recv in zip(sends, recvs):
        if send.tensor.shape != recv.tensor.shape:
            return f"rank {rank} and itself, {send.key}: sends {tuple(send.tensor.shape)}, takes {tuple(recv.tensor.shape)}"
    return None


def _is_temporary(tensor: torch.Tensor) -> bool:
    """Whether the tensor is all that sees its memory: no parameter, no view, no DLPack, no array of numpy's."""
    if type(tensor) is not torch.Tensor or tensor.requires_grad or not tensor.is_contiguous():
        return False
    storage = tensor.untyped_storage()
    if storage.nbytes() != tensor.nbytes or not storage.resizable():  # numpy's, either way, is not
        return False
    count = getattr(torch._C, "_storage_Use_Count", None)  # not public; without it nothing counts as temporary
    return count is not None and count(storage._cdata) == USERS_OF_STORAGE and tensor._use_count() == 1  # type: ignore[attr-defined]


def _signature(sends: Any, recvs: Any) -> list[Any]:
    return [(kind, peer, [(operation.key, operation.tensor.nbytes, operation.tensor.device) for operation in side[peer]])
            for kind, side in enumerate((sends, recvs)) for peer in sorted(side)]


class _Link:
    """A session with one tensor of bytes per pair of ranks, in which the operations lie one behind another by their key."""

    def __init__(self, comm: reshard.Comm, sends: Any, recvs: Any, signature: list[Any], timeout: float):
        self.signature = signature
        src, dst = reshard.LayoutBuilder(comm.size), reshard.LayoutBuilder(comm.size)
        arrays = []
        for builder, side, is_send in ((src, sends, True), (dst, recvs, False)):
            buffers = {}
            for peer, operations in side.items():
                ends = (comm.rank, peer) if is_send else (peer, comm.rank)
                # The hash is in the name, so that ranks that disagree about ids or sizes are told by the plan.
                name, size_bytes = _name(ends, operations), _places(operations)[-1]
                builder.tensor(name, (size_bytes,), "U8")
                builder.block(name, comm.rank, str(peer), (0,), (size_bytes,))
                buffers[str(peer)] = _memory(comm, size_bytes, operations[0].tensor.device)
            arrays.append(buffers)
        self._src, self._dst = arrays
        self.plan = reshard.plan(src.build().exchange(comm, timeout), dst.build().exchange(comm, timeout))
        self.session = reshard.Session(self.plan, comm, self._src, self._dst, timeout=timeout)

    def run(self, sends: Any, recvs: Any, timeout: float, takes_temporaries: bool) -> None:
        for peer, operations in sends.items():
            for view, tensor in _views(self._src[str(peer)], operations):
                view.copy_(tensor)
        self.session.run(timeout=timeout).finish()
        for peer, operations in recvs.items():
            for view, tensor in _views(self._dst[str(peer)], operations):
                if takes_temporaries and _is_temporary(tensor):
                    tensor.set_(view)
                else:
                    tensor.copy_(view)


def _places(operations: list[_Operation]) -> list[int]:
    """Where each operation's bytes begin, and where the last one's end."""
    places = [0]
    for operation in operations:
        places.append(places[-1] + -(-operation.tensor.nbytes // ALIGNMENT) * ALIGNMENT)
    return places


def _name(ends: tuple[int, int], operations: list[_Operation]) -> str:
    said = repr([(operation.key, operation.tensor.nbytes) for operation in operations])
    return f"from rank {ends[0]} to {ends[1]}: {len(operations)} operations {hashlib.sha256(said.encode()).hexdigest()[:16]}"


def _views(buffer: torch.Tensor, operations: list[_Operation]) -> Any:
    for place, operation in zip(_places(operations), operations):
        tensor = operation.tensor
        yield buffer[place:place + tensor.nbytes].view(tensor.dtype).view(tensor.shape), tensor


def _memory(comm: reshard.Comm, size_bytes: int, device: torch.device) -> torch.Tensor:
    """Bytes that stay bound; on the host such as peers can map."""
    if device.type == "cpu":
        return torch.from_numpy(comm.empty(size_bytes))
    return torch.empty(size_bytes, dtype=torch.uint8, device=device)
