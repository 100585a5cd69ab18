# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Trainers and workers on one comm: the same collective steps on both sides, in the same order.

Trainers have ranks [0, T), the workers of all replicas that take part those behind. A replica that is lost or comes back
makes another comm: an update is planned for all that are there, so that replicas pass on what they got, and none waits
for one that is gone.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import reshard

from .._comm import agree


@dataclasses.dataclass(frozen=True)
class LinkOptions:
    """Equal on all ranks. open_groups: most layers in flight on a worker; staging_bytes: most staging memory of a rank,
    None: 64 MiB; timeout: seconds of each step."""

    open_groups: int = 2
    staging_bytes: int | None = None
    timeout: float = 60.0


@dataclasses.dataclass
class Side:
    """What a rank brings to one side: its blocks, and its memory by buffer; of a destination, buffers without memory lie
    in scratch alone, on `device`."""

    layout: reshard.Layout
    memory: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    device: int | None = None


class PeerError(RuntimeError):
    """Another rank cannot take part. The message names it and says why."""


class Link:
    """One rank's part. source, destination: make this rank's Side; the latter from the source's layout of all ranks.

    Collective. Errors of one rank are raised on all: its own there, PeerError on the others.
    """

    def __init__(self, unique_id: bytes, rank: int, num_ranks: int, options: LinkOptions,
                 source: Callable[[int, int], Side], destination: Callable[[int, int, reshard.Layout], Side]):
        self.options, self._source, self._destination = options, source, destination
        self.comm = reshard.Comm.from_unique_id(unique_id, rank, num_ranks, timeout=options.timeout)
        self._reload: reshard.Reload | None = None
        try:
            self._bind_source()
            self._bind_destination(None)
        except BaseException:
            self.close()
            raise

    def _bind_source(self) -> None:
        self._src = self._agreed(lambda: self._source(self.comm.rank, self.comm.size))
        self.src_layout = self._src.layout.exchange(self.comm, self.options.timeout)

    def _bind_destination(self, old: reshard.Plan | None) -> None:
        """Describes the destination, plans, or updates the old plan, and binds."""
        self._dst = self._agreed(lambda: self._destination(self.comm.rank, self.comm.size, self.src_layout))
        dst_layout = self._dst.layout.exchange(self.comm, self.options.timeout)
        self.plan = old.update(dst_layout) if old else reshard.plan(
            self.src_layout, dst_layout, staging_bytes=self.options.staging_bytes,
            open_groups=self.options.open_groups, skip_unmatched=True)
        self._bind()

    def _bind(self) -> None:
        if self._reload is not None:
            self._reload.close()
        self._reload = reshard.Reload(self.plan, self.comm, self._src.memory, self._dst.memory,
                                      device=self._dst.device, lands_directly=True, timeout=self.options.timeout)

    def _agreed(self, make: Callable[[], Side]) -> Side:
        made, problem = None, None
        try:
            made = make()
        except Exception as error:  # whatever it is, the other ranks must not wait for this one
            problem = error
        agree(self.comm, problem, self.options.timeout, PeerError)
        assert made is not None
        return made

    def run(self, is_source_new: bool = False, is_destination_new: bool = False,
            on_layer: Callable[[reshard.Layer], None] | None = None, stream: Any = None) -> None:
        """One update. is_source_new, is_destination_new: this rank's side differs from what it described before.

        on_layer: is called with each layer that has landed on this rank, which is committed when it returns.
        """
        told = self.comm.allgather(bytes([is_source_new, is_destination_new]), self.options.timeout)
        if any(flags[0] for flags in told):
            self._bind_source()
            self._bind_destination(None)
        elif any(flags[1] for flags in told):
            self._bind_destination(self.plan)
        self._move(on_layer, stream)

    def _move(self, on_layer: Callable[[reshard.Layer], None] | None, stream: Any) -> None:
        reload, timeout = self._reload, self.options.timeout
        assert reload is not None
        reload.start(stream)
        problem: Exception | None = None
        try:
            while (layer := reload.next(timeout)) is not None:
                if on_layer:
                    on_layer(layer)
                reload.commit(layer.group, stream)
        except Exception as error:
            problem = error
            if not isinstance(error, reshard.Error):
                reload.give_up(f"{type(error).__name__}: {error}")
        try:
            reload.finish(timeout)
        except reshard.Error:
            if problem is None:
                raise
        if problem is not None:
            raise problem

    @property
    def stats(self) -> dict[str, int]:
        assert self._reload is not None
        return self._reload.stats

    def close(self) -> None:
        """Frees the comm and what is bound. Not collective."""
        if self._reload is not None:
            self._reload.close()
            self._reload = None
        self.comm.close()


def nothing(num_ranks: int) -> Side:
    """The side of a rank that holds nothing of it."""
    return Side(reshard.LayoutBuilder(num_ranks).build())
