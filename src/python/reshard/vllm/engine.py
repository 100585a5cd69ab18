# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The weight transfer engine `reshard` of vLLM's workers."""
from __future__ import annotations

import dataclasses
from typing import Any, cast

import torch
from vllm.config import set_current_vllm_config
from vllm.distributed.weight_transfer.base import WeightTransferEngine, WeightTransferInitInfo, WeightTransferUpdateInfo

import reshard
from reshard.vllm import experts, steps
from reshard.vllm.landing import Landing, checkpoint_tensors, layout_of
from reshard.vllm.link import Link, LinkOptions, Side, nothing
from reshard.vllm.model import record


@dataclasses.dataclass
class InitInfo(WeightTransferInitInfo):
    """What the trainer's engine tells each worker of a replica; plain JSON.

    unique_id: of the comm, in hexadecimal digits. rank_offset: rank of the replica's first worker. num_ranks: trainers
    and workers of all replicas. Others: as of LinkOptions. every_layer: as of reshard.vllm.model.record.
    """

    unique_id: str = dataclasses.field(repr=False)
    rank_offset: int
    num_ranks: int
    num_workers: int
    open_groups: int = 2
    staging_bytes: int | None = None
    timeout: float = 60.0
    every_layer: bool = False


@dataclasses.dataclass
class UpdateInfo(WeightTransferUpdateInfo):
    """Nothing: an update moves all that both sides have."""


class Engine(WeightTransferEngine[InitInfo, UpdateInfo]):
    """Lands new weights in a worker's memory. Its layout is recorded from the model's own loaders."""

    init_info_cls = InitInfo
    update_info_cls = UpdateInfo
    supports_draft_weight_update = False

    def __init__(self, config: Any, vllm_config: Any, device: torch.device, model: torch.nn.Module) -> None:
        super().__init__(config, vllm_config, device, model)
        self._link: Link | None = None
        self._landing: Landing | None = None
        self._tables: list[experts.Table] = []
        self._every_layer = False

    def init_transfer_engine(self, init_info: InitInfo) -> None:
        """Joins the trainers and describes this worker. Errors: RecordingError names what cannot be recorded."""
        self.shutdown()
        self._every_layer = init_info.every_layer
        options = LinkOptions(init_info.open_groups, init_info.staging_bytes, init_info.timeout)
        self._link = Link(bytes.fromhex(init_info.unique_id), init_info.rank_offset + self._place(init_info.num_workers),
                          init_info.num_ranks, options, lambda _, num_ranks: nothing(num_ranks), self._describe)

    def _place(self, num_workers: int) -> int:
        """This worker's place among those of its replica: stages and tensor parallel ranks, data parallel outermost."""
        parallel = self.parallel_config
        place = parallel.data_parallel_index * parallel.world_size + parallel.rank
        count = parallel.data_parallel_size * parallel.world_size
        if count != num_workers:
            raise ValueError(f"the trainer expects {num_workers} workers in a replica, this one has {count}: set "
                             "workers_per_replica of ReshardTrainerInitInfo")
        return place

    def _describe(self, rank: int, num_ranks: int, source: reshard.Layout) -> Side:
        """This worker's side of the transfer from a source with these tensors."""
        tensors = checkpoint_tensors(source)
        with set_current_vllm_config(self.vllm_config):
            recording = record(self.model, tensors, self._every_layer)
            self._tables = experts.tables(self.model)
            recording = experts.apply(recording, self._tables)
            self._landing = Landing(self.model, recording)
        layout = layout_of(recording, source, rank, num_ranks)
        return Side(layout, self._landing.memory, self.device.index if self.device.type == "cuda" else None)

    def start_weight_update(self) -> None:
        """Nothing: the weights in use change when their layer arrives."""

    def receive_weights(self, update_info: UpdateInfo) -> None:
        """One update, layer by layer. Errors: reshard.Error; layers that were not committed are as they were."""
        del update_info
        if self._link is None or self._landing is None:
            raise RuntimeError("the weight transfer engine reshard is not initialised: call init_weight_transfer_engine")
        is_new = experts.tables(self.model) != self._tables or not self._landing.is_valid()
        stream = torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None
        self._link.run(is_destination_new=is_new, on_layer=self._take, stream=stream)

    def _take(self, layer: reshard.Layer) -> None:
        """By the landing that is there when the layer comes: the run may have begun with describing it anew."""
        assert self._landing is not None
        self._landing.take(layer)

    def finish_weight_update(self) -> None:
        """What attention layers derive from others' weights comes last."""
        steps.finish_attention(self.model, cast(torch.dtype, self.model_config.dtype))

    def shutdown(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        self._landing = None
