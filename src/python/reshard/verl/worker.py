# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The worker's side: hands the training engine itself to the checkpoint engine, so that it finds the shards."""
from __future__ import annotations

from typing import Any

from verl.single_controller.base.decorator import Dispatch, register


class ShardSender:
    """Before verl's ActorRolloutRefWorker among the bases of a worker: `class Worker(ShardSender, ActorRolloutRefWorker)`.

    verl's own update_weights asks the engine for full tensors, one by one, of whatever checkpoint engine.
    """

    config: Any
    actor: Any
    checkpoint_engine: Any

    @register(dispatch_mode=Dispatch.ONE_TO_ALL, blocking=False)
    async def update_weights(self, global_steps: int | None = None, mode: str = "auto") -> dict[str, float]:
        if (self.config.rollout.checkpoint_engine.backend if mode == "auto" else mode) == "reshard":
            return await self.checkpoint_engine.send_weights(self.actor.engine, global_steps=global_steps)
        return await super().update_weights(global_steps=global_steps, mode=mode)  # type: ignore[misc]
