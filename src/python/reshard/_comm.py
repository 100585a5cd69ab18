# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The ranks of a transfer, connected."""
from __future__ import annotations

import logging
from typing import Any, Callable, Sequence

import numpy as np

from ._errors import InvalidArgument
from ._library import chars, check, created, ffi, lib, microseconds, struct, text, value

logger = logging.getLogger("reshard")
Allgather = Callable[[bytes], Sequence[bytes]]
TOLD_BYTES = 992  # of the message by which a rank tells the others what is wrong with it


def unique_id(address: str | None = None) -> bytes:
    """What Comm.from_unique_id joins: 128 bytes, made by the process that will be rank 0, carried to the others by any
    means. It holds the secret by which ranks know each other. It keeps a socket open until rank 0 has joined.

    address: of this host, as the others reach it; None: 127.0.0.1, for ranks of one host.
    """
    made = ffi.new("reshard_unique_id_t*")
    check(lib.reshard_unique_id_create(chars(address), made))
    return bytes(ffi.buffer(made))


@ffi.callback("void(const char*, void*)")
def _log_notice(sentence: Any, _user: Any) -> None:
    logger.warning("%s", text(sentence))


def _options(timeout: float, net_devices: str | None) -> tuple[Any, Any]:
    """(the struct, what must live as long). Whom a long rendezvous waits for goes to the log "reshard"."""
    options, devices = struct("comm_options"), chars(net_devices)
    options.timeout_us, options.net_devices, options.notice = microseconds(timeout), devices, _log_notice
    return options, devices


class Comm:
    """Made by one of the class methods, all collective over all ranks. timeout: seconds, for the rendezvous and for every
    collective. net_devices: those that this rank uses, by UCX's names; None: all. They raise Timeout naming the ranks that
    did not come, PeerFailed, TransportError, InvalidArgument, InvalidState.

    One thread at a time per comm and session; a process that has made one must not fork.
    """

    def __init__(self, handle: Any):
        self.handle = handle
        self.rank: int = value("int32_t", lib.reshard_comm_rank, handle)
        self.size: int = value("int32_t", lib.reshard_comm_size, handle)

    @classmethod
    def from_environment(cls, *, timeout: float = 60.0, net_devices: str | None = None) -> Comm:
        """Rank, size and rendezvous from the variables of mpirun, torchrun or srun; RESHARD_ROOT=host:port and
        RESHARD_SECRET add to them."""
        options, _keep = _options(timeout, net_devices)
        return cls(created("comm", lib.reshard_comm_create_from_environment, options))

    @classmethod
    def from_unique_id(cls, id_bytes: bytes, rank: int, num_ranks: int, *, timeout: float = 60.0,
                       net_devices: str | None = None) -> Comm:
        """Joins the ranks that have the bytes of one unique_id()."""
        options, _keep = _options(timeout, net_devices)
        made = ffi.new("reshard_unique_id_t*")
        if len(id_bytes) != ffi.sizeof(made[0]):
            raise InvalidArgument(f"the unique id has {len(id_bytes)} bytes; unique_id() gives {ffi.sizeof(made[0])}")
        ffi.memmove(made, id_bytes, len(id_bytes))
        return cls(created("comm", lib.reshard_comm_create_from_id, made, rank, num_ranks, options))

    @classmethod
    def from_callback(cls, allgather: Allgather, rank: int, num_ranks: int, *, timeout: float = 60.0,
                      net_devices: str | None = None) -> Comm:
        """With the caller's all-gather in place of a rendezvous: it gets this rank's bytes and returns those of all, equal
        in length, in the order of the ranks. It is called on this thread, before this returns; what it raises is raised
        here."""
        options, _keep = _options(timeout, net_devices)
        problems: list[BaseException] = []

        def gather(data: Any, out: Any, size_bytes: int, _user: Any) -> int:
            try:
                gathered = b"".join(allgather(bytes(ffi.buffer(data, size_bytes))))
                if len(gathered) != num_ranks * size_bytes:
                    raise InvalidArgument(f"the all-gather returned {len(gathered)} bytes for {num_ranks} ranks of "
                                          f"{size_bytes} each")
                ffi.memmove(out, gathered, len(gathered))
                return 0
            except BaseException as problem:  # handed through the library, and raised below
                problems.append(problem)
                return 1

        callback = ffi.callback("int(const void*, void*, size_t, void*)", gather)
        try:
            return cls(created("comm", lib.reshard_comm_create_from_callback, callback, ffi.NULL, rank, num_ranks,
                               options))
        except Exception:
            if problems:
                raise problems[0]
            raise

    @classmethod
    def local(cls, num_ranks: int) -> list[Comm]:
        """Connected comms for threads of one process, one per rank."""
        out = ffi.new("reshard_comm_t[]", max(1, num_ranks))
        check(lib.reshard_comm_create_local(num_ranks, ffi.NULL, out))
        return [cls(ffi.gc(out[rank], lib.reshard_comm_destroy)) for rank in range(num_ranks)]

    def allgather(self, data: bytes, timeout: float = 60.0) -> list[bytes]:
        """What every rank gave, in their order; all give as many bytes, at most 256 MiB. Collective, and a barrier."""
        out = ffi.new("char[]", max(1, self.size * len(data)))
        check(lib.reshard_comm_allgather(self.handle, ffi.from_buffer(data), out, len(data), microseconds(timeout)))
        return [bytes(ffi.buffer(out + rank * len(data), len(data))) for rank in range(self.size)]

    def barrier(self, timeout: float = 60.0) -> None:
        """Returns when all ranks have called it. Collective."""
        self.allgather(b"\0", timeout)

    def empty(self, shape: int | Sequence[int], dtype: Any = np.uint8) -> np.ndarray[Any, Any]:
        """A zeroed numpy array in memory that peers on this host can map, so that bytes are copied once, tensor to tensor.

        Any other memory works too, through messages. dtype: numpy's. The memory is freed with the array and its views.
        """
        kind = np.dtype(dtype)
        extents = (shape,) if isinstance(shape, int) else tuple(shape)
        size_bytes = int(np.prod(extents, dtype=np.int64)) * kind.itemsize
        return np.frombuffer(ffi.buffer(self._allocated(size_bytes), size_bytes), np.uint8).view(kind).reshape(extents)

    def _allocated(self, size_bytes: int) -> Any:
        out = ffi.new("void**")
        check(lib.reshard_alloc(self.handle, size_bytes, out))
        handle = self.handle  # outlives the memory
        return ffi.gc(out[0], lambda pointer: lib.reshard_free(handle, pointer))

    def close(self) -> None:
        """Lets go of it; not collective. It is freed once no session and no array of `empty` needs it."""
        self.handle = ffi.NULL  # the library refuses it; who needs the comm holds a reference to what was here

    def __enter__(self) -> Comm:
        return self

    def __exit__(self, *_problem: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<reshard.Comm rank {self.rank} of {self.size}>"


def agree(comm: Comm, problem: Exception | None, timeout: float, others: type[Exception] = InvalidArgument) -> None:
    """Raises `problem`, and on the other ranks an error of type `others` that tells of it. Collective; timeout: seconds."""
    text_of_it = str(problem).encode()[:TOLD_BYTES] if problem else b""
    told = comm.allgather(text_of_it.ljust(TOLD_BYTES, b"\0"), timeout)
    if problem:
        raise problem
    for rank, message in enumerate(told):
        if message.strip(b"\0"):
            raise others(f"rank {rank} gave up: {message.rstrip(bytes(1)).decode(errors='replace')}")
