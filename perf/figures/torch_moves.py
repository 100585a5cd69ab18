#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Moves a model from FSDP's shards to tensor parallelism in two replicas, on 4 processes of this machine, three ways: by
reshard, by full_tensor() and slice, and by DTensor's redistribute, over gloo. Prints a line of JSON.

usage: torch_moves.py [--gigabytes N] [--rounds N]      by a Python that has torch; RESHARD_LIBRARY, PYTHONPATH=src/python

The ways take turns in the same processes, each between two barriers; every element is compared after each.
"""
import argparse
import json
import multiprocessing
import os
import socket
import statistics
import time

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard

import reshard
import reshard.torch
from reshard import _session

NUM_RANKS = 4
HIDDEN, INNER, HEADS, KV_HEADS, VOCABULARY = 1024, 3072, 2048, 1024, 50000
ROWS, COLUMNS, WHOLE = [Replicate(), Shard(0)], [Replicate(), Shard(1)], [Replicate(), Replicate()]
FSDP = [Shard(0), Shard(0)]


def shapes(gigabytes):
    """name -> (shape, placements of the destination) of layers as Qwen3-0.6B has them, as many as make the size in BF16."""
    found = {"model.embed_tokens.weight": ((VOCABULARY, HIDDEN), ROWS)}
    layer = {"self_attn.q_proj": ((HEADS, HIDDEN), ROWS), "self_attn.k_proj": ((KV_HEADS, HIDDEN), ROWS),
             "self_attn.v_proj": ((KV_HEADS, HIDDEN), ROWS), "self_attn.o_proj": ((HIDDEN, HEADS), COLUMNS),
             "mlp.gate_proj": ((INNER, HIDDEN), ROWS), "mlp.up_proj": ((INNER, HIDDEN), ROWS),
             "mlp.down_proj": ((HIDDEN, INNER), COLUMNS), "input_layernorm": ((HIDDEN,), WHOLE),
             "post_attention_layernorm": ((HIDDEN,), WHOLE)}
    number = 0
    while 2 * sum(torch.Size(shape).numel() for shape, _ in found.values()) < gigabytes * 1e9:
        found.update({f"model.layers.{number}.{name}.weight": of for name, of in layer.items()})
        number += 1
    return found


def numbered(shape, first):
    """Rows and columns that tell each other apart, in integers that BF16 holds."""
    rows = torch.arange(shape[0]).add(first).remainder(113).reshape(-1, *[1] * (len(shape) - 1))
    columns = torch.arange(shape[-1]).remainder(127) if len(shape) > 1 else 0
    return (rows + columns).to(torch.bfloat16)


def part(tensor, placements, mesh):
    """What a rank of the mesh has, by torch.chunk."""
    for axis, placement in enumerate(placements):
        if isinstance(placement, Shard):
            tensor = tensor.chunk(mesh.size(axis), placement.dim)[mesh.get_coordinate()[axis]]
    return tensor.contiguous()


def by_full_tensor(src, dst, mesh):
    for name, tensor in src.items():
        dst[name].to_local().copy_(part(tensor.full_tensor(), dst[name].placements, mesh))


def by_redistribute(src, dst, mesh):
    for name, tensor in src.items():
        dst[name].to_local().copy_(tensor.redistribute(mesh, dst[name].placements).to_local())


def status_bytes(field):
    with open("/proc/self/status", encoding="utf-8") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def growth_bytes(function):
    """(by how much this process was larger, at most, while the function ran, than before; what it returned). Pages of
    shared memory count, too, in each process that has touched them."""
    with open("/proc/self/clear_refs", "w", encoding="utf-8") as clear:
        clear.write("5")  # the peak is counted from now on
    before = status_bytes("VmRSS")
    result = function()
    return status_bytes("VmHWM") - before, result


def most(comm, count):
    """The largest of all ranks' numbers."""
    return max(int.from_bytes(each, "little", signed=True) for each in comm.allgather(count.to_bytes(8, "little", signed=True)))


def timed(function):
    dist.barrier()
    begin = time.perf_counter()
    function()
    dist.barrier()
    return time.perf_counter() - begin


def check(dst, mesh, what):
    for index, (name, tensor) in enumerate(dst.items()):
        if not torch.equal(tensor.to_local(), part(numbered(tensor.shape, index), tensor.placements, mesh)):
            raise RuntimeError(f"{what}: {name} is wrong")
        tensor.to_local().fill_(-1)


def rank_main(rank, port, arguments, results):
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=NUM_RANKS)
    mesh, flat_mesh = init_device_mesh("cpu", (2, 2)), init_device_mesh("cpu", (NUM_RANKS,))
    src, dst, flat = {}, {}, {}
    for index, (name, (shape, placements)) in enumerate(shapes(arguments.gigabytes).items()):
        local = part(numbered(shape, index), FSDP, mesh)
        src[name] = DTensor.from_local(local, mesh, FSDP, run_check=False)
        # The same memory as FSDP2 on one axis has it, so that full_tensor() is one all-gather.
        flat[name] = DTensor.from_local(local, flat_mesh, [Shard(0)], run_check=False)
        local = torch.full_like(part(numbered(shape, index), placements, mesh), -1)
        dst[name] = DTensor.from_local(local, mesh, placements, run_check=False)
    comm = reshard.torch.comm()
    begin = time.perf_counter()
    growth = {}
    growth["bind"], session = growth_bytes(lambda: reshard.torch.session(src, dst, comm))
    bind_seconds = time.perf_counter() - begin
    ways = {"reshard": lambda: session.run().finish(), "full_tensor": lambda: by_full_tensor(flat, dst, mesh),
            "redistribute": lambda: by_redistribute(src, dst, mesh)}
    for name, way in ways.items():  # the first run, whose time is not looked at
        growth[name], _ = growth_bytes(lambda way=way: timed(way))
        check(dst, mesh, name)
    seconds = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            seconds[name].append(timed(way))
            check(dst, mesh, name)
    stats = session.stats
    staging_bytes, growth = most(comm, stats["staging_bytes"]), {name: most(comm, count) for name, count in growth.items()}
    if rank == 0:
        results.put({"bytes": 2 * sum(tensor.numel() for tensor in src.values()), "tensors": len(src), "seconds":
                     seconds, "bind_seconds": bind_seconds, "staging_bytes": staging_bytes, "growth_bytes": growth,
                     "bytes_crossed": session.plan.bytes_crossed})
        results.close()
        results.join_thread()  # os._exit does not wait for what is still to be written
    dist.barrier()
    os._exit(0)


class Immediate:
    """The library's calls of a run, that return at once: what is left is Python's part."""
    reshard_binding_start = reshard_binding_wait_group = reshard_binding_finish = staticmethod(lambda *_: 0)

    @staticmethod
    def reshard_binding_poll(_binding, capacity, _groups, count, _is_complete):
        count[0] = capacity
        return 0


def python_seconds(num_tensors, num_groups):
    """(of a run that is only finished, of one whose groups are looped over): medians, without the library's own time."""
    builder, comm = reshard.LayoutBuilder(1), reshard.Comm.local(1)[0]
    for index in range(num_tensors):
        builder.tensor(f"t{index}", (2,), "F32", group=index % num_groups)
        builder.place(f"t{index}", [0], [reshard.Replicate()], buffer="all", offset_bytes=8 * index)
    layout = builder.build()
    memory = [comm.empty(8 * num_tensors) for _ in range(2)]
    with reshard.Session(reshard.plan(layout, layout), comm, {"all": memory[0]}, {"all": memory[1]}) as session:
        assert len(list(session.run())) == num_groups
        library, _session.lib = _session.lib, Immediate
        try:
            samples = [[], []]
            for _ in range(2000):
                begin = time.perf_counter()
                session.run().finish()
                middle = time.perf_counter()
                for _group in session.run():
                    pass
                samples[0].append(middle - begin)
                samples[1].append(time.perf_counter() - middle)
        finally:
            _session.lib = library
    return [statistics.median(values) for values in samples]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [context.Process(target=rank_main, args=(rank, port, arguments, results)) for rank in range(NUM_RANKS)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
        if process.exitcode:
            for other in ranks:
                other.kill()
            raise SystemExit("a rank failed")
    report = results.get(timeout=5)
    report["python"] = [{"tensors": tensors, "groups": groups, "seconds": python_seconds(tensors, groups)}
                        for tensors, groups in ((10, 1), (3000, 1), (3000, 64))]
    report["torch"] = torch.__version__
    print(json.dumps(report))


if __name__ == "__main__":
    main()
