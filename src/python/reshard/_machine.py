# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What joins the ranks: GPUs, NVLink domains, NICs, rails, switches, each with its rate."""
from __future__ import annotations

import json
import os
from typing import Any, Sequence

from ._library import chars, created, ffi, lib, microseconds, struct, text_of, value


class Machine:
    """From a description, or discovered. Does not change; plans made for it keep what they need."""

    def __init__(self, description: str | os.PathLike[str], segments: Sequence[int]):
        """description: a preset with settings ("hgx-h100:nodes=64,leaf=32,oversub=2"), or the name of a cluster file
        (YAML) or of an NCCL topology XML. segments: counts of ranks that add up to the ranks of the layouts; each begins
        on a node of its own (the trainer's ranks, then the server's).

        Raises InvalidArgument naming the key, or file, line and element; IoError.
        """
        counts = ffi.new("int32_t[]", list(segments) or [0])
        self.handle = created("machine", lib.reshard_machine_create, chars(description), len(segments), counts)

    @classmethod
    def discover(cls, comm: Any, *, gpu: int = -1, nic_bits_per_s: int = 0, timeout: float = 60.0) -> Machine:
        """The machine that the ranks of a comm run on. Collective; equal on every rank.

        gpu: this rank's by its index on the node; -1: the rank's place among those of its host. nic_bits_per_s: of NICs
        whose speed the kernel does not know; 0: those are an error. timeout: seconds.
        """
        options = struct("machine_discover_options")
        options.gpu, options.nic_bits_per_s, options.timeout_us = gpu, nic_bits_per_s, microseconds(timeout)
        made = cls.__new__(cls)
        made.handle = created("machine", lib.reshard_machine_discover, comm.handle, options)
        return made

    @property
    def num_ranks(self) -> int:
        return value("int32_t", lib.reshard_machine_num_ranks, self.handle)

    @property
    def warnings(self) -> list[str]:
        """What was taken with doubt, e.g. a NIC that serves no GPU: show it to who described the machine."""
        count = value("int32_t", lib.reshard_machine_num_warnings, self.handle)
        return [text_of(lib.reshard_machine_get_warning, self.handle, index) for index in range(count)]

    def json(self) -> dict[str, Any]:
        """Name, counts, rates and warnings."""
        return json.loads(text_of(lib.reshard_machine_report_json, self.handle))

    def __repr__(self) -> str:
        return f"<reshard.Machine {self.json().get('name', '')!r} of {self.num_ranks} ranks>"
