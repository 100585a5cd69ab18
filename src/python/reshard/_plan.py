# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Plans: which bytes go where, in which order. A pure function of two layouts and the machine, equal on every rank."""
from __future__ import annotations

import json
import os
from typing import Any

from ._errors import InvalidArgument
from ._layout import Layout
from ._library import chars, check, created, ffi, lib, struct, text, text_of, value
from ._machine import Machine
from ._report import report_html, report_text

ORDERS = {"fixed": 0, "rotated": 1, "any": 2}  # reshard_group_order_t
INFO_FIELDS = ("hash", "num_ranks", "num_tensors", "num_groups", "num_atoms", "num_bundles", "num_messages",
               "bytes_crossed", "bytes_local", "staging_bytes", "planning_seconds", "estimate_seconds", "bound_seconds")


class Plan:
    """Made by reshard.plan, `update`, `replan` or `load`. str() is the report for people, json() the report for programs.

    src, dst: the layouts it was made for. order: which orders of groups destinations accept; None of a loaded plan.
    """

    def __init__(self, handle: Any, src: Layout, dst: Layout, machine: Machine | None, order: str | None):
        self.handle, self.src, self.dst, self.machine, self.order = handle, src, dst, machine, order

    def __getattr__(self, name: str) -> Any:
        """Counts of reshard_plan_info_t: `hash`, `num_messages`, `bytes_crossed`, `bytes_local`, `staging_bytes`,
        `planning_seconds`, `estimate_seconds` and `bound_seconds` (0 without a machine), ..."""
        if name not in INFO_FIELDS:
            raise AttributeError(f"a Plan has no {name!r}")
        info = struct("plan_info")
        check(lib.reshard_plan_get_info(self.handle, info))
        return getattr(info, name)

    @property
    def groups(self) -> list[int]:
        """The completion groups in ascending order."""
        return [value("int64_t", lib.reshard_plan_get_group, self.handle, index) for index in range(self.num_groups)]

    @property
    def unmatched(self) -> list[tuple[str, str]]:
        """("source" or "destination", name) of the tensors that only one side has, where the options skip them."""
        found, name, is_at_source = [], ffi.new("const char**"), ffi.new("int32_t*")
        for index in range(value("int64_t", lib.reshard_plan_num_unmatched, self.handle)):
            check(lib.reshard_plan_get_unmatched(self.handle, index, name, is_at_source))
            found.append(("source" if is_at_source[0] else "destination", text(name[0])))
        return found

    def json(self) -> dict[str, Any]:
        """The report, as perf/README.md describes it."""
        return json.loads(text_of(lib.reshard_plan_report_json, self.handle))

    def details(self, bundle: int = -1) -> dict[str, Any]:
        """What a picture is drawn from: traffic between domains, use of links, the routes of a bundle (-1: of the one
        that brings most bytes over the network). Raises InvalidState for a plan without a machine."""
        return json.loads(text_of(lib.reshard_plan_details_json, self.handle, bundle))

    def advise(self) -> dict[str, Any]:
        """Which destination rank should take which other's place so that the fewest bytes move. Changes nothing."""
        return json.loads(text_of(lib.reshard_plan_advise_json, self.handle))

    def simulate(self) -> float:
        """Seconds on the plan's machine, played as fluid. The report has it from then on."""
        return value("double", lib.reshard_plan_simulate, self.handle)

    def update(self, dst: Layout) -> Plan:
        """The plan after the destination's tensors lie elsewhere, as after a new table of experts: what is untouched
        keeps its ways. Every rank updates, or none. Raises LayoutMismatch when anything else has changed."""
        return self._with(created("plan", lib.reshard_plan_update, self.handle, dst.handle), self.src, dst)

    def replan(self, src: Layout, dst: Layout) -> Plan:
        """The plan for layouts that differ little, e.g. by a replica that is lost or added (Layout.without_ranks)."""
        return self._with(created("plan", lib.reshard_plan_replan, self.handle, src.handle, dst.handle), src, dst)

    def _with(self, handle: Any, src: Layout, dst: Layout) -> Plan:
        return Plan(handle, src, dst, self.machine, self.order)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it to a file. Raises IoError."""
        check(lib.reshard_plan_save(self.handle, chars(path)))

    @classmethod
    def load(cls, path: str | os.PathLike[str], src: Layout, dst: Layout, machine: Machine | None = None) -> Plan:
        """Reads a plan back for the layouts and the machine it was made for; PlanMismatch for others."""
        handle = created("plan", lib.reshard_plan_load, chars(path), src.handle, dst.handle,
                         machine.handle if machine else ffi.NULL)
        return cls(handle, src, dst, machine, None)

    def __str__(self) -> str:
        return report_text(self.json())

    def _repr_html_(self) -> str:
        return report_html(self.json())

    def __repr__(self) -> str:
        return f"<reshard.Plan {self.hash:016x}, {self.num_ranks} ranks, {self.num_tensors} tensors>"


def plan(src: Layout, dst: Layout, machine: Machine | None = None, *, staging_bytes: int | None = None,
         group_order: str = "fixed", open_groups: int = 0, skip_unmatched: bool = False) -> Plan:
    """Plans the transfer src -> dst. No communication; the same on every rank that has equal arguments.

    machine: of as many ranks; None: every rank sends straight to others. staging_bytes: most staging memory per rank;
    None: 64 MiB. open_groups: most groups that are open on a destination rank at once, 0: no limit; group_order: which
    orders it then accepts, "fixed" (ascending), "rotated" or "any". skip_unmatched: tensors that only one side has are
    left as they are and listed in Plan.unmatched; else they are LayoutMismatch.

    Raises LayoutMismatch, NotCovered (naming tensor, box and rank), InvalidArgument, StagingTooSmall.
    """
    if group_order not in ORDERS:
        raise InvalidArgument(f"group_order is {group_order!r}; give one of {', '.join(ORDERS)}")
    options = struct("plan_options")
    if staging_bytes is not None:
        options.staging_bytes = staging_bytes
    options.machine = machine.handle if machine else ffi.NULL
    options.group_order, options.open_groups, options.unmatched = ORDERS[group_order], open_groups, int(skip_unmatched)
    handle = created("plan", lib.reshard_plan_create, src.handle, dst.handle, options)
    return Plan(handle, src, dst, machine, group_order if open_groups else "fixed")
