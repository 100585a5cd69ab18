#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""verl's checkpoint engine manager with the engine "reshard": real Ray actors on a CPU, FSDP2 trainers, updates in a row.

The rollouts are verl's CheckpointEngineWorkers; behind them, in place of a server, stands what takes the tensors and keeps
them.
"""
import asyncio
import os
import sys
import time

import numpy as np
import ray
import torch
from omegaconf import OmegaConf
from verl.checkpoint_engine import CheckpointEngineManager, CheckpointEngineRegistry, CheckpointEngineWorker
from verl.single_controller.base import Worker
from verl.single_controller.base.decorator import Dispatch, register
from verl.single_controller.ray import RayClassWithInitArgs, RayResourcePool, RayWorkerGroup
from verl.utils.distributed import initialize_global_process_group_ray
from verl.workers.config import CheckpointEngineConfig

import reshard.verl

ACTORS, ROLLOUTS = 2, 2
BUCKET_BYTES = 4096
# Names as transformers 5 has them; uneven shards, a stack of experts, one tensor larger than a bucket, a scalar's worth.
SHAPES = {"model.embed_tokens.weight": (101, 16), "model.layers.0.mlp.experts.gate_up_proj": (5, 12, 8),
          "model.layers.0.mlp.experts.down_proj": (5, 8, 6), "model.layers.0.norm.weight": (7,),
          "model.layers.1.q_proj.weight": (33, 16), "lm_head.bias": (1,)}


def value(name, step):
    """The whole tensor in an update."""
    shape = SHAPES[name]
    first = list(SHAPES).index(name) * 10000 + step
    return torch.arange(first, first + int(np.prod(shape)), dtype=torch.float32).reshape(shape)


def expected(step):
    """What a rollout is handed: experts one by one, as files have them."""
    for name in SHAPES:
        tensor = value(name, step)
        if name.endswith("gate_up_proj"):
            for expert in range(5):
                yield name.replace("gate_up_proj", f"{expert}.gate_proj.weight"), tensor[expert, :6]
                yield name.replace("gate_up_proj", f"{expert}.up_proj.weight"), tensor[expert, 6:]
        elif name.endswith("experts.down_proj"):
            for expert in range(5):
                yield name.replace("down_proj", f"{expert}.down_proj.weight"), tensor[expert]
        else:
            yield name, tensor


class Engine:
    """A training engine as verl's are: a module under FSDP2, and an export that gathers tensor by tensor."""

    def __init__(self):
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        self.module = torch.nn.Module()
        for name, shape in SHAPES.items():
            part = self.module
            *path, last = name.split(".")
            for step in path:
                if not hasattr(part, step):
                    part.add_module(step, torch.nn.Module())
                part = getattr(part, step)
            part.register_parameter(last, torch.nn.Parameter(torch.zeros(shape)))
        fully_shard(self.module, mesh=init_device_mesh("cpu", (ACTORS,)))
        self.gathered = 0

    def fill(self, step):
        from torch.distributed.tensor import distribute_tensor

        for name, parameter in self.module.named_parameters():
            whole = distribute_tensor(value(name, step), parameter.device_mesh, parameter.placements)
            parameter.data.to_local().copy_(whole.to_local())

    def get_per_tensor_param(self, **_):
        def gather():
            for name, parameter in self.module.state_dict().items():
                self.gathered += 1
                whole = parameter.full_tensor()
                if ".experts." not in name:
                    yield name, whole
                    continue
                parts = whole.chunk(2, dim=1) if "gate_up" in name else [whole]
                for expert in range(5):
                    for part, stacked in zip(("gate_proj", "up_proj") if "gate_up" in name else ("down_proj",), parts):
                        yield f"{name.rpartition('.')[0]}.{expert}.{part}.weight", stacked[expert].contiguous()
        return gather(), None


class Stock(Worker):
    """A worker that does what verl's own does in update_weights."""

    def __init__(self):
        super().__init__()
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        initialize_global_process_group_ray(timeout_second=None, backend="gloo")
        self.config = OmegaConf.create({"rollout": {"checkpoint_engine": {"backend": "reshard"}}})
        self.actor = type("Actor", (), {"engine": Engine()})()
        self.checkpoint_engine = CheckpointEngineRegistry.new("reshard", bucket_size=BUCKET_BYTES, is_master=self.rank == 0,
                                                              device=None)
        self.messages = []
        self.checkpoint_engine._warn = self.messages.append

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def fill(self, step):
        self.actor.engine.fill(step)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def said(self):
        return self.actor.engine.gathered, self.messages, self.checkpoint_engine._token

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def cpu_seconds(self):
        return time.process_time()

    @register(dispatch_mode=Dispatch.ONE_TO_ALL, blocking=False)
    async def update_weights(self, global_steps=None, mode="auto"):
        weights, _ = self.actor.engine.get_per_tensor_param()
        return await self.checkpoint_engine.send_weights(weights, global_steps=global_steps)

    @register(dispatch_mode=Dispatch.DP_COMPUTE, blocking=False)
    def execute_checkpoint_engine(self, method, *args, **kwargs):
        return getattr(self.checkpoint_engine, method)(*args, **kwargs)


class Trainer(reshard.verl.ShardSender, Stock):
    """Hands over its engine. The stock way stays, for the other half of the test."""

    @register(dispatch_mode=Dispatch.ONE_TO_ALL, blocking=False)
    async def update_weights(self, global_steps=None, mode="auto"):
        if os.environ.get("STOCK"):
            return await Stock.update_weights(self, global_steps, mode)
        return await reshard.verl.ShardSender.update_weights(self, global_steps, mode)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def be_stock(self, is_stock):
        os.environ["STOCK"] = "1" if is_stock else ""


class Server:
    """In a rollout worker: takes tensors as verl's adapters do."""

    replica_rank = 0

    def __init__(self):
        self.taken, self.fails_after = {}, None

    async def update_weights(self, weights, global_steps=None, wire_format="named_tensors"):
        self.taken = {}
        async for name, tensor in weights:
            if self.fails_after is not None and len(self.taken) >= self.fails_after:
                raise RuntimeError("the server is full")
            self.taken[name] = tensor.clone()


class Rollout(CheckpointEngineWorker):
    def __init__(self, config):
        super().__init__(config, None, server_adapter=Server())

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def wrong(self, step):
        """Names of tensors that are not what the trainers had."""
        taken, wanted = self.server_adapter.taken, dict(expected(step))
        odd = list(taken.keys() ^ wanted.keys())
        return odd + [name for name in wanted if name in taken and not torch.equal(taken[name], wanted[name])]

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def fail_after(self, count):
        self.server_adapter.fails_after = count

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def open_bytes(self):
        return self.checkpoint_engine._buckets.reload.stats["open_bytes"]

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def cpu_seconds(self):
        return time.process_time()


class Replica:
    """What the manager asks of a rollout replica, of a server that has nothing to stop."""

    def __init__(self, workers):
        self.workers = workers

    async def nothing(self, **_):
        pass

    abort_all_requests = release_kv_cache = resume_kv_cache = resume_generation = nothing


def group(count, cls, *arguments):
    pool = RayResourcePool(process_on_nodes=[count], use_gpu=False, max_colocate_count=1)
    return RayWorkerGroup(pool, RayClassWithInitArgs(ray.remote(cls), *arguments), device_name="cpu")


def update(manager, trainers, rollouts, step):
    trainers.fill(step)
    metrics = manager.update_weights(global_steps=step)
    for index, wrong in enumerate(rollouts.wrong(step)):
        assert not wrong, f"step {step}, rollout {index}: {wrong}"
    return metrics


def main():
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "RAY_DEDUP_LOGS": "0",
                   "RESHARD_LIBRARY": os.environ.get("RESHARD_LIBRARY", "")}
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": environment})
    try:
        scenario()
    finally:
        ray.shutdown()
    print("passed")


def scenario():
    engine = CheckpointEngineConfig(backend="reshard", custom_backend_module="reshard.verl",
                                    engine_kwargs={"reshard": {"device": None, "timeout": 60.0}})
    rollout_config = type("RolloutConfig", (), {"name": "vllm", "mode": "async", "checkpoint_engine": engine})
    trainers, rollouts = group(ACTORS, Trainer), group(ROLLOUTS, Rollout, rollout_config)
    replicas = [Replica([worker]) for worker in rollouts.workers]
    manager = CheckpointEngineManager(engine, trainers, replicas)
    # Shards: nothing is gathered, and the second update takes what the first has bound.
    metrics = update(manager, trainers, rollouts, 0)
    assert metrics["reshard/seconds"] > 0
    gathered, messages, token = trainers.said()[0]
    assert (gathered, messages) == (0, []), (gathered, messages)
    update(manager, trainers, rollouts, 1)
    assert trainers.said()[0][2] == token and token
    total = sum(4 * int(np.prod(shape)) for shape in SHAPES.values())
    assert max(rollouts.open_bytes()) < 0.9 * total, f"{rollouts.open_bytes()} of {total} bytes are open at once"
    print("shards: ok")
    # Full tensors, where the worker gives nothing else, and says so.
    trainers.be_stock(True)
    update(manager, trainers, rollouts, 2)
    gathered, messages, _ = trainers.said()[1]
    assert gathered == len(SHAPES) and "full tensors" in messages[0], (gathered, messages)
    trainers.be_stock(False)
    print("full tensors: ok")
    # A server that fails: everybody is told, and the next update is right.
    rollouts.fail_after(2)
    trainers.fill(3)
    try:
        manager.update_weights(global_steps=3)
    except Exception as problem:
        assert "the server is full" in str(problem), problem
    else:
        raise AssertionError("nobody was told")
    rollouts.fail_after(None)
    update(manager, trainers, rollouts, 4)
    print("failure: ok")
    # One replica less: another comm, among those that are left.
    manager.remove_replicas(replicas[1:])
    trainers.fill(5)
    manager.update_weights(global_steps=5)
    wrong = rollouts.wrong(5)
    assert not wrong[0] and wrong[1], wrong
    assert trainers.said()[0][2] != token
    manager.add_replicas(replicas[1:])
    update(manager, trainers, rollouts, 6)
    print("replicas: ok")
    seconds = [time.process_time(), *trainers.cpu_seconds(), *rollouts.cpu_seconds()]
    print(f"{sum(seconds):.0f} s of a core, of which most are imports: {[round(one) for one in seconds]}")


if __name__ == "__main__":
    asyncio.set_event_loop(asyncio.new_event_loop())
    sys.exit(main())
