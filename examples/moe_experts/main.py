#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""An RL loop in miniature with a mixture of experts: FSDP2 trainers, a server of tensor and expert parallel ranks.

After each step of training the weights go, in place, into the server, whose table of experts has followed the load: the
plan is updated, not made anew. Then both sides compute the logits of the same tokens.

usage: main.py [STEPS]      four processes on this machine; or under torchrun, one per rank
"""
import multiprocessing
import os
import socket
import sys
import time

import reshard
import reshard.torch
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from model import Config, Decoder
from server import Server, balanced_table

RANKS = 4
TOLERANCE = 1e-9  # in fp64, whose sums come in another order


def make_trainer(config):
    """The decoder under FSDP2: every parameter is cut over all ranks."""
    torch.manual_seed(0)
    decoder = Decoder(config)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in decoder.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(decoder, mesh=mesh)
    return decoder, torch.optim.AdamW(decoder.parameters(), lr=2e-2)


def train(decoder, optimizer, config, step):
    """One step on a batch of this rank's own. Returns its loss, and how many tokens each layer's experts have had."""
    generator = torch.Generator().manual_seed(1000 * step + dist.get_rank())
    tokens = [torch.randint(config.vocabulary // 3, (8,), generator=generator)]
    for _ in range(16):
        tokens.append((5 * tokens[-1] + 3) % (config.vocabulary // 3))  # a rule to be learnt; two thirds are never seen
    tokens = torch.stack(tokens, dim=1)
    loss = F.cross_entropy(decoder(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    loads = torch.stack([layer.mlp.load for layer in decoder.layers])
    dist.all_reduce(loads)
    for layer in decoder.layers:
        layer.mlp.load.zero_()
    return loss.item(), loads.tolist()


def loop(steps):
    torch.set_default_dtype(torch.float64)
    config, comm = Config(), reshard.torch.comm()
    decoder, optimizer = make_trainer(config)
    server = Server(config)
    src, src_memory = reshard.torch.layout(decoder, comm)  # where each rank's shards lie; the optimiser works in place
    plan = session = None
    pointers = [tensor.data_ptr() for tensor in server.memory.values()]
    tokens = torch.arange(2 * 12).reshape(2, 12) * 7 % config.vocabulary
    for step in range(steps):
        loss, loads = train(decoder, optimizer, config, step)
        began = time.perf_counter()
        before = server.tables
        dst = server.layout([balanced_table(load, comm.size) for load in loads])
        if plan is None:
            plan = reshard.plan(src, dst)
        elif server.tables != before:
            plan = plan.update(dst)
            session.close()
            session = None
        session = session or reshard.Session(plan, comm, src_memory, server.memory)
        layers = list(session.run())
        seconds = time.perf_counter() - began
        with torch.no_grad():
            difference = (decoder(tokens) - server.logits(tokens)).abs().max().item()
        assert difference < TOLERANCE, f"step {step}: logits differ by {difference}"
        assert pointers == [tensor.data_ptr() for tensor in server.memory.values()]
        if comm.rank == 0:
            print(f"step {step}: loss {loss:.3f}; {changed(before, server.tables)}; groups {layers} after {1e3 * seconds:.0f} ms, "
                  f"planning included; logits differ by {difference:.0e}", flush=True)


def changed(before, tables):
    slots = [[index for table in found for row in table for index in row] for found in (before, tables)]
    if not before:
        return f"{len(slots[1])} slots"
    return f"{sum(a != b for a, b in zip(*slots))} of {len(slots[1])} slots have another expert"


def run(rank, port, steps):
    if rank is not None:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(RANKS), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    loop(steps)
    dist.destroy_process_group()


def main():
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    if "RANK" in os.environ:
        return run(None, 0, steps)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fork = multiprocessing.get_context("fork")  # after the imports, which take longest
    ranks = [fork.Process(target=run, args=(rank, port, steps)) for rank in range(RANKS)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    return max(abs(process.exitcode) for process in ranks)


if __name__ == "__main__":
    sys.exit(main())
