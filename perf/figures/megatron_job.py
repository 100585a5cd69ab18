#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Megatron-Core's planner and CopyService against reshard, on the same two models in the same processes: JSON of seconds.

usage: megatron_job.py live | paper     in the frameworks' environment, with RESHARD_LIBRARY

live: four processes, a model of 1 GB at tp 2, pp 2 into one at tp 4; plans with all that belongs to them (reading the
modules, telling the others), and moves, by turns. paper: the planners alone, for a job of many ranks, of which this
process is each in turn; Megatron's rank 0, that plans for all, is spared the messages.
"""
import json
import pathlib
import sys
import time
from contextlib import contextmanager

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "frameworks"))

import megatron_jobs as jobs  # noqa: E402: before torch
import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.resharding import planner, swap_model_weights
from megatron.core.resharding.copy_services.gloo_copy_service import GlooCopyService

import reshard.torch
from reshard.megatron import Refit, local_layout
from reshard.megatron.copy_service import ReshardCopyService

ROUNDS = 7
LIVE = {"model_type": "llama", "num_hidden_layers": 12, "hidden_size": 1024, "intermediate_size": 4096, "head_dim": 64,
        "vocab_size": 32768, "num_attention_heads": 16, "num_key_value_heads": 8}
SOURCE, TARGET = "megatron:tp=2,pp=2", "megatron:tp=4"
# Heads of Llama 3.1 8B and half of its layers; to a planner widths do not matter.
PAPER = {"model_type": "llama", "num_hidden_layers": 16, "hidden_size": 128, "intermediate_size": 512, "head_dim": 4,
         "vocab_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8}
PAPER_RANKS, PAPER_SOURCE, PAPER_TARGET = 256, "megatron:tp=8,pp=4,dp=8", "megatron:tp=4,pp=1,dp=64"


def without_cuda():
    """What Megatron's service asks of CUDA: a stream that nothing waits for."""
    torch.cuda.current_stream = lambda *_: type("Stream", (), {"wait_stream": lambda *_: None})()


def timed(function):
    """Seconds until the slowest rank is done."""
    dist.barrier()
    began = time.perf_counter()
    result = function()
    dist.barrier()
    return time.perf_counter() - began, result


def live(rank, queue):
    without_cuda()
    comm = reshard.torch.comm()
    source, target = jobs.Job(LIVE, SOURCE, rank), jobs.Job(LIVE, TARGET, rank)
    theirs, ours = GlooCopyService(), ReshardCopyService(comm, takes_temporaries=True)
    source.fill()
    found = {"bytes": sum(tensor.nbytes for _, _, tensor in target.tensors()), "plan": [], "bind": [], "move": []}
    for _ in range(ROUNDS):
        megatron, plan = timed(lambda: planner.build_centralized_reshard_plan(source.model, target.model))
        reshard_side, _ = timed(lambda: layouts_and_plan(source, target, comm))
        found["plan"].append([megatron, reshard_side])
    target.model._cached_reshard_plan = plan
    found["bind"], refit = timed(lambda: Refit(source.model, target.model, comm))
    moves = {"megatron": lambda: swap_model_weights(source.model, target.model, refit_method=theirs),
             "reshard": lambda: refit.run().finish(),
             "service": lambda: swap_model_weights(source.model, target.model, refit_method=ours)}
    for number in range(ROUNDS + 1):
        seconds = {}
        for name, move in moves.items():
            if number == 0:
                target.poison()
            seconds[name] = timed(move)[0]
            if number == 0:
                target.check()  # and what is made at the first move is not counted
        if number:
            found["move"].append(seconds)
    if rank == 0:
        queue.put(found)


def layouts_and_plan(source, target, comm):
    """All of what Refit does before it binds."""
    sides = [local_layout(job.model, comm.rank, comm.size).layout.exchange(comm) for job in (source, target)]
    return reshard.plan(*sides)


# ------------------------------------------------------------------------------------------------------------ paper

@contextmanager
def rank_of_world(config, text, rank):
    """The model of one rank of a job of fake groups. On the meta device: nothing is allocated."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=rank, world_size=PAPER_RANKS, store=FakeStore())
    with torch.device("meta"):
        model = jobs.Job(config, text, rank).model
    yield model
    parallel_state.destroy_model_parallel()
    dist.destroy_process_group()


def described(text):
    """(every rank's metadata as Megatron takes it, every rank's layout, seconds to read one) of a job."""
    metadata, layouts, seconds = [], [], []
    for rank in range(PAPER_RANKS):
        with rank_of_world(PAPER, text, rank) as model:
            prefixes = planner._build_layer_module_prefix_map(model)
            metadata.append([planner.extract_param_metadata(parameter, name, rank, model.pg_collection,
                                                            layer_module_prefix_map=prefixes)
                             for name, parameter in model.named_parameters()])
            began = time.perf_counter()
            layouts.append(local_layout(model, rank, PAPER_RANKS).layout)
            seconds.append(time.perf_counter() - began)
    return metadata, layouts, seconds


def merged(layouts):
    """What the exchange of all ranks would give."""
    builder, known = reshard.LayoutBuilder(PAPER_RANKS), set()
    for rank, layout in enumerate(layouts):
        for tensor in layout.tensors:
            if tensor.name not in known:
                known.add(tensor.name)
                builder.tensor(tensor.name, tensor.shape, tensor.dtype, tensor.group)
        for block in layout.blocks(rank):
            builder.block(block.tensor, rank, block.buffer, block.start, block.shape, offset_bytes=block.offset_bytes,
                          strides_bytes=block.strides_bytes, kind=block.kind)
    return builder.build()


def paper():
    (src_metadata, src, read), (dst_metadata, dst, _) = described(PAPER_SOURCE), described(PAPER_TARGET)
    given = [src_metadata, dst_metadata]
    gathered = iter(())

    def gather(into, _mine):
        into[:] = next(gathered)

    dist.all_gather_object, dist.broadcast_object_list = gather, lambda *_, **__: None
    planner.dist.get_rank, planner.dist.get_world_size = lambda: 0, lambda: PAPER_RANKS
    empty = torch.nn.Module()  # rank 0's own reading is not counted
    empty.pg_collection = object()
    layouts = merged(src), merged(dst)
    seconds = []
    for _ in range(3):
        gathered = iter(given)
        began = time.perf_counter()
        planner.build_centralized_reshard_plan(empty, empty)
        megatron = time.perf_counter() - began
        began = time.perf_counter()
        reshard.plan(*layouts)
        seconds.append([megatron, time.perf_counter() - began])
    return {"plan": seconds, "read": sorted(read)[len(read) // 2], "ranks": PAPER_RANKS}


if __name__ == "__main__":
    if sys.argv[1] == "paper":
        print(json.dumps(paper()))
    else:
        import multiprocessing
        reports = multiprocessing.get_context("fork").Queue()
        jobs.run_world(4, live, reports, timeout=400)
        print(json.dumps(reports.get()))
