# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Moves model weights between parallel layouts.

    layout    one per side: Layout.from_text, Layout.from_spec, or LayoutBuilder; from torch modules: reshard.torch
    plan      reshard.plan(src, dst, machine): pure, and the same on every rank
    comm      the ranks: Comm.from_environment, from_unique_id, from_callback, local
    session   Session(plan, comm, src=arrays, dst=arrays): bound once; `for group in session.run(): ...` again and again

Sizes and offsets are in bytes where the name says so, else in elements; timeouts are in seconds. Calls that fail raise
`Error`, of a class per status, with the library's message. Waiting calls release the interpreter's lock.
"""
from ._builder import LayoutBuilder, Replicate, Shard
from ._comm import Comm, unique_id
from ._dtypes import dtype_name, dtype_size_bytes
from ._errors import (Abandoned, BufferTooSmall, DataMismatch, Error, GivenUp, InternalError, InvalidArgument,
                      InvalidState, IoError, LayoutMismatch, NotCovered, NotSupported, OutOfMemory, PeerFailed,
                      PlanMismatch, StagingTooSmall, Status, Timeout, TransportError)
from ._layout import Block, BufferInfo, Layout, TensorInfo, num_ranks_of
from ._library import VERSION as __version__
from ._library import build_info
from ._machine import Machine
from ._memory import Memory
from ._plan import Plan, plan
from ._reload import Layer, Reload
from ._session import Run, Session

__all__ = [
    "Abandoned", "Block", "BufferInfo", "BufferTooSmall", "Comm", "DataMismatch", "Error", "GivenUp", "InternalError",
    "InvalidArgument", "InvalidState", "IoError", "Layer", "Layout", "LayoutBuilder", "LayoutMismatch", "Machine", "Memory",
    "NotCovered", "NotSupported", "OutOfMemory", "PeerFailed", "Plan", "PlanMismatch", "Reload", "Replicate", "Run", "Session",
    "Shard", "StagingTooSmall", "Status", "TensorInfo", "Timeout", "TransportError", "__version__", "build_info",
    "dtype_name", "dtype_size_bytes", "num_ranks_of", "plan", "unique_id",
]
