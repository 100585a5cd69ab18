# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The weight transfer engine `reshard` of trainers: every rank gives its own shards, rank 0 also calls the servers.

All replicas that are there take part in one comm, so that what one got it may pass on to others. When one is lost, or is
back, or a server was started anew, the ranks make another comm, before the next update or in place of the one that
failed: an update that fails leaves layers old or new, and is done again with those that are left.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch.distributed as dist
from vllm.distributed.weight_transfer.base import TrainerInitInfo, TrainerWeightTransferEngine, WeightSource
from vllm.logger import init_logger

import reshard
from reshard.vllm.link import Link, LinkOptions, PeerError, nothing
from reshard.vllm.replicas import Control
from reshard.vllm.source import ShardSource

logger = init_logger(__name__)


@dataclasses.dataclass(kw_only=True)
class ReshardTrainerInitInfo(TrainerInitInfo):
    """rank: of this trainer, rank 0 calls the servers. num_trainer_ranks: how many there are.

    workers_per_replica: of each server: tensor parallel x pipeline x data parallel ranks. group: torch's process group of
    the trainers, None: the default one; not needed by a single trainer. address: of rank 0's host, as the servers reach
    it; None: 127.0.0.1, for servers on this host. Others: as of LinkOptions, and of reshard.vllm.model.record.
    """

    backend: ClassVar[str] = "reshard"

    num_trainer_ranks: int = 1
    workers_per_replica: int = 1
    group: Any = None
    address: str | None = None
    open_groups: int = 2
    staging_bytes: int | None = None
    timeout: float = 60.0
    every_layer: bool = False


class TrainerEngine(TrainerWeightTransferEngine[ReshardTrainerInitInfo]):
    """Made by `trainer_init` on every trainer rank; `send_weights` moves what the source holds then."""

    init_info_cls = ReshardTrainerInitInfo

    def __init__(self, init_info: ReshardTrainerInitInfo, *, client: Any, source: ShardSource):
        super().__init__(client=client, source=source, is_sender=init_info.rank == 0)
        self.source: ShardSource = source
        self.info = init_info
        self.control = Control(client, init_info.timeout) if self.is_sender else None
        self.members: list[int] = []  # replicas of the link
        self.link: Link | None = None
        self._key: tuple[Any, ...] = ()

    @classmethod
    def trainer_init(cls, init_info: ReshardTrainerInitInfo, *, client: Any, source: WeightSource | None = None) -> Self:
        """Joins all servers that answer. Collective over the trainers.

        Errors: TypeError for a source that is no ShardSource; RuntimeError that says why a server's layout cannot be
        recorded, or that none answers.
        """
        if not isinstance(source, ShardSource):
            raise TypeError(f"the engine reshard takes local shards, its source must be a reshard.vllm.source.ShardSource "
                            f"(e.g. ShardSource.of_module(model)); got {type(source).__name__}")
        engine = cls(init_info, client=client, source=source)
        engine._connect(engine._told(list(range(len(engine.control.clients))) if engine.control else None))
        return engine

    def send_weights(self, weight_version: str | None = None) -> None:
        """One update of all servers that are there. Collective over the trainers.

        A server that does not answer, or is lost on the way, is left out, and a warning says so; when it answers again it
        takes part in the next update. weight_version: told to the servers.
        Errors: RuntimeError when no server is left, or one refuses; then no server counts the update as done.
        """
        for _ in range(2 + len(self._clients())):
            members = self._told(self.control.present() if self.control else None)
            if not members:
                raise RuntimeError(f"no server takes weights: {self._why()}")
            if self._update(members):
                self._finish(members, weight_version)
                return
        raise RuntimeError(f"servers are lost faster than an update can be done: {self._why()}")

    def shutdown(self) -> None:
        """Lets go of the comm; servers keep their weights. Not collective."""
        if self.link is not None:
            self.link.close()
            self.link = None

    # -- among trainers -------------------------------------------------------------------------------------------------

    def _told(self, value: Any) -> Any:
        """Rank 0's value, on every trainer."""
        if self.info.num_trainer_ranks == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, group=self.info.group, group_src=0)
        return values[0]

    def _all_well(self, is_well: bool) -> bool:
        if self.info.num_trainer_ranks == 1:
            return is_well
        answers: list[Any] = [None] * self.info.num_trainer_ranks
        dist.all_gather_object(answers, is_well, group=self.info.group)
        return all(answers)

    def _clients(self) -> Sequence[Any]:
        return range(self._told(len(self.control.clients) if self.control else None))

    def _why(self) -> str:
        return self.control.explain() if self.control else "rank 0 knows why"

    # -- with servers ---------------------------------------------------------------------------------------------------

    def _connect(self, members: list[int]) -> None:
        """Makes the link of all trainers with these replicas anew. Collective over both."""
        self.shutdown()
        unique_id = self._told(reshard.unique_id(self.info.address) if self.control else None)
        num_ranks = self.info.num_trainer_ranks + len(members) * self.info.workers_per_replica
        begun = self.control.begin(members, lambda place, client: client.init_weight_transfer_engine(
            self._for_workers(unique_id, place, num_ranks))) if self.control else {}
        options = LinkOptions(self.info.open_groups, self.info.staging_bytes, self.info.timeout)
        try:
            self.link = Link(unique_id, self.info.rank, num_ranks, options, self.source.side,
                             lambda _rank, size, _source: nothing(size))
        finally:
            if self.control:
                self.control.end(begun)
        self.members, self._key = members, self.source.key()
        self._report()

    def _for_workers(self, unique_id: bytes, place: int, num_ranks: int) -> dict[str, Any]:
        """InitInfo of the replica that is at `place` among the members."""
        info = self.info
        return {"unique_id": unique_id.hex(), "num_ranks": num_ranks, "num_workers": info.workers_per_replica,
                "rank_offset": info.num_trainer_ranks + place * info.workers_per_replica,
                "open_groups": info.open_groups, "staging_bytes": info.staging_bytes, "timeout": info.timeout,
                "every_layer": info.every_layer}

    def _report(self) -> None:
        assert self.link is not None
        left_out = [name for side, name in self.link.plan.unmatched if side == "source"]
        if left_out and self.is_sender:
            logger.info("reshard: the servers use %d of the trainer's tensors not: %s", len(left_out), ", ".join(left_out[:5]))

    def _update(self, members: list[int]) -> bool:
        """Whether an update went well with these; after one that did not, the link is gone."""
        problem: Exception | None = None
        try:
            if self.link is None or members != self.members:
                self._connect(members)
        except (reshard.Error, PeerError) as error:
            problem = error
        if self._all_well(problem is None):
            begun = self.control.begin(members, lambda _, client: client.update_weights({})) if self.control else {}
            problem = self._move()
            if self.control and len(self.control.end(begun)) < len(members) and problem is None:
                problem = RuntimeError(self._why())
        if self._all_well(problem is None):
            return True
        if self.is_sender:
            logger.warning("reshard: an update failed and is tried again with the servers that are left: %s; %s", problem,
                           self._why())
        self.shutdown()
        if self.control:
            self.control.give_back(members)
        if isinstance(problem, PeerError):  # a server says no: it would say so again
            raise RuntimeError(f"a server refuses: {problem}") from problem
        return False

    def _move(self) -> Exception | None:
        assert self.link is not None
        try:
            key = self.source.key()
            self.link.run(is_source_new=key != self._key)
            self._key = key
        except (reshard.Error, PeerError) as error:
            return error
        return None

    def _finish(self, members: list[int], weight_version: str | None) -> None:
        if self.control:
            def finish(_place: int, client: Any) -> None:
                client.finish_weight_update() if weight_version is None else client.finish_weight_update(weight_version)

            self.control.end(self.control.begin(members, finish))
            if self.control.problems:
                logger.warning("reshard: left out of this update: %s", self._why())
