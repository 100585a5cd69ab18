# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What the library's calls raise: `Error` with the library's message and its status, one class per status."""
from __future__ import annotations

import enum


class Status(enum.IntEnum):
    """reshard_status_t; the comments of include/reshard/base.h say when each comes."""
    OK = 0
    INVALID_ARGUMENT = -1
    INVALID_STATE = -2
    NOT_SUPPORTED = -3
    OUT_OF_MEMORY = -4
    IO = -5
    LAYOUT_MISMATCH = -10
    NOT_COVERED = -11
    PLAN_MISMATCH = -12
    BUFFER_TOO_SMALL = -13
    STAGING_TOO_SMALL = -14
    TIMEOUT = -20
    PEER_FAILED = -21
    TRANSPORT = -22
    ABANDONED = -23
    GIVEN_UP = -24
    DATA_MISMATCH = -25
    INTERNAL = -30


class Error(Exception):
    """A call failed. str() is the library's message: what failed, with which values, and what to do."""
    status: Status = Status.INTERNAL


class InvalidArgument(Error, ValueError):
    """A value is out of range, malformed, or contradicts another; nothing was done."""
    status = Status.INVALID_ARGUMENT


class InvalidState(Error):
    """The call is not allowed now, e.g. a run before the last one was finished."""
    status = Status.INVALID_STATE


class NotSupported(Error):
    """This build, this transport or this machine cannot do it."""
    status = Status.NOT_SUPPORTED


class OutOfMemory(Error, MemoryError):
    """An allocation failed."""
    status = Status.OUT_OF_MEMORY


class IoError(Error, OSError):
    """A file could not be read or written."""
    status = Status.IO


class LayoutMismatch(Error):
    """The two sides disagree on names, shapes, dtypes or the number of ranks."""
    status = Status.LAYOUT_MISMATCH


class NotCovered(Error):
    """A destination element that no source holds."""
    status = Status.NOT_COVERED


class PlanMismatch(Error):
    """Ranks hold different plans, or a saved plan belongs to other layouts."""
    status = Status.PLAN_MISMATCH


class BufferTooSmall(Error):
    """Memory that was bound is smaller than its layout says."""
    status = Status.BUFFER_TOO_SMALL


class StagingTooSmall(Error):
    """The staging budget cannot hold one element."""
    status = Status.STAGING_TOO_SMALL


class Timeout(Error, TimeoutError):
    """The deadline passed; the message says what was still missing."""
    status = Status.TIMEOUT


class PeerFailed(Error):
    """A peer is known to be gone; the comm is of no more use."""
    status = Status.PEER_FAILED


class TransportError(Error):
    """The transport reported an error."""
    status = Status.TRANSPORT


class Abandoned(Error):
    """A peer gave the run up; the comm is in order and the next run may succeed."""
    status = Status.ABANDONED


class GivenUp(Error):
    """The caller of a rank gave a reload up, for a reason of its own."""
    status = Status.GIVEN_UP


class DataMismatch(Error):
    """What a destination holds is not what its sources hold; names the tensor."""
    status = Status.DATA_MISMATCH


class InternalError(Error):
    """A defect of reshard: please report the message."""
    status = Status.INTERNAL


CLASSES = {kind.status: kind for kind in (
    InvalidArgument, InvalidState, NotSupported, OutOfMemory, IoError, LayoutMismatch, NotCovered, PlanMismatch,
    BufferTooSmall, StagingTooSmall, Timeout, PeerFailed, TransportError, Abandoned, GivenUp, DataMismatch,
    InternalError)}


def error_of(status: int, message: str) -> Error:
    """The exception of a status, also of one that a newer library has and this package does not know."""
    kind = CLASSES.get(status)  # type: ignore[call-overload]
    return kind(message) if kind else InternalError(f"{message} (unknown status {status})")
