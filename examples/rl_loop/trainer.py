# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The trainers: a small Qwen3 model in fp32 under FSDP2, trained by the answers that the server gives."""
import os
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from reshard_vllm_plugin import register
from reshard.vllm.source import ShardSource
from reshard.vllm.trainer import ReshardTrainerInitInfo
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from vllm.distributed.weight_transfer import WeightTransferTrainerFactory

from model import make_model
from server import Client

ANSWERS = 8  # to each prompt in a step


def sharded_model(num_ranks):
    """The model under FSDP2: every parameter is cut over all ranks."""
    model, mesh = make_model(), init_device_mesh("cpu", (num_ranks,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model, torch.optim.AdamW(model.parameters(), lr=3e-3)


def reward(answer):
    """The share of even tokens."""
    return sum(token % 2 == 0 for token in answer) / len(answer)


def train(model, optimizer, rollouts):
    """One step of REINFORCE on this rank's part of the rollouts, with their mean as the baseline. Returns that mean."""
    mean = sum(reward(answer) for _, answer in rollouts) / len(rollouts)
    loss = torch.zeros(())
    for prompt, answer in rollouts[dist.get_rank()::dist.get_world_size()]:
        tokens = torch.tensor([prompt + answer])
        logits = model(tokens[:, :-1]).logits[0, len(prompt) - 1:]
        loss = loss + (reward(answer) - mean) * F.cross_entropy(logits, tokens[0, len(prompt):])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return mean


def everywhere(value):
    """Rank 0's value, on all ranks."""
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def loop(rank, num_ranks, workers, folder, steps, client):
    model, optimizer = sharded_model(num_ranks)
    everywhere(client.greedy() if client else None)  # when it answers, the server is up
    engine = WeightTransferTrainerFactory.trainer_init(
        ReshardTrainerInitInfo(rank=rank, num_trainer_ranks=num_ranks, workers_per_replica=workers, timeout=120),
        client=client, source=ShardSource.of_module(model))
    for step in range(steps):
        rollouts = everywhere(client.generate(ANSWERS, 1.0, step) if client else None)
        mean = train(model, optimizer, rollouts)
        began = time.perf_counter()
        engine.send_weights()
        if rank == 0:
            print(f"step {step}: reward {mean:.2f}; the new weights were in the engine after "
                  f"{1e3 * (time.perf_counter() - began):.0f} ms", flush=True)
    engine.shutdown()
    # For the comparison alone: what a checkpoint is.
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if rank == 0:
        last = make_model()
        last.load_state_dict(state)
        last.to(torch.bfloat16).save_pretrained(f"{folder}/last")


def run(rank, num_ranks, workers, port, folder, steps, connection):
    """A trainer's process. connection: rank 0's, to the server."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(num_ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    register()
    dist.init_process_group("gloo")
    loop(rank, num_ranks, workers, folder, steps, Client(connection) if connection else None)
    dist.destroy_process_group()
