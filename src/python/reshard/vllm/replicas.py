# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The servers that a trainer feeds, each with its control plane; which of them are there."""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any


class LLMClient:
    """vLLM's offline LLM in this process as the client of a trainer's engine."""

    def __init__(self, llm: Any):
        self._llm = llm

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._llm.init_weight_transfer_engine({"init_info": init_info})

    def start_weight_update(self) -> None:
        self._llm.start_weight_update()

    def update_weights(self, update_info: Any) -> None:
        self._llm.update_weights({"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._llm.finish_weight_update(weight_version)


class Replicas:
    """Several servers with equal weights, to be given to the trainer's engine as its client.

    clients: one for each replica, as vLLM's VLLMWeightSyncClient. One whose server is gone must raise, or be slower than
    the engine's timeout. It is asked again before every update: a server that is back joins then.
    """

    def __init__(self, clients: Sequence[Any]):
        self.clients = list(clients)


class Control:
    """Calls to replicas, side by side, on threads of their own."""

    def __init__(self, client: Any, timeout: float):
        self.clients = client.clients if isinstance(client, Replicas) else [client]
        self.timeout = timeout
        self.problems: dict[int, Exception] = {}  # of replicas that are not there, by their place: why

    def begin(self, members: Sequence[int], call: Callable[[int, Any], None]) -> dict[int, Future[None]]:
        """Calls call(place among the members, client) for each member; to be followed by `end`."""
        pool = ThreadPoolExecutor(max_workers=max(1, len(members)), thread_name_prefix="reshard-replica")
        begun = {member: pool.submit(call, place, self.clients[member]) for place, member in enumerate(members)}
        pool.shutdown(wait=False)  # a call that never returns must not hold up the trainer
        return begun

    def end(self, begun: dict[int, Future[None]]) -> list[int]:
        """Waits for calls; the members whose calls went well. Of the others `problems` says why."""
        well = []
        for member, future in begun.items():
            try:
                future.result(self.timeout)
                well.append(member)
                self.problems.pop(member, None)
            except FutureTimeout:
                self.problems[member] = TimeoutError(f"no answer within {self.timeout} s")
            except Exception as error:  # whatever a client raises when its server is gone
                self.problems[member] = error
        return well

    def present(self) -> list[int]:
        """Starts an update on all replicas that answer, and tells which these are."""
        return self.end(self.begin(range(len(self.clients)), lambda _, client: client.start_weight_update()))

    def give_back(self, members: Sequence[int]) -> None:
        """Ends an update that failed on replicas that still count it as under way, so that another may start."""
        for future in self.begin(members, lambda _, client: client.finish_weight_update()).values():
            with contextlib.suppress(Exception):  # gone, or not under way there any more
                future.result(self.timeout)

    def explain(self) -> str:
        return "; ".join(f"replica {member}: {type(error).__name__}: {error}" for member, error in sorted(self.problems.items()))
