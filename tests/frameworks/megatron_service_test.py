#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Megatron-Core's own swap_model_weights over reshard's CopyService: its plans, its buffers, our bytes."""
import itertools
import random
import sys

import megatron_jobs as jobs
import numpy as np
import reshard
import reshard.torch
import torch
from megatron.core.resharding import swap_model_weights
from megatron_refit_test import raises
from reshard.megatron.copy_service import ReshardCopyService

# A vocabulary that is padded alike at every size, which Megatron's planner needs.
DENSE = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 48, "intermediate_size": 72, "vocab_size": 512,
         "num_attention_heads": 12, "num_key_value_heads": 12, "head_dim": 4}
EXPERTS = {**DENSE, "model_type": "qwen3_moe", "moe_intermediate_size": 24, "num_experts": 4, "mlp_only_layers": [0]}
# Its planner tells experts of several ranks apart only with TransformerEngine, and cuts grouped ones wrongly.
MORE = [(DENSE, "megatron:tp=2,pp=2", "megatron:tp=4"), (DENSE, "megatron:tp=1,pp=2", "megatron:tp=2,pp=2"),
        (EXPERTS, "megatron:tp=2,ep=1,etp=2", "megatron:tp=4,ep=1,etp=4"),
        (EXPERTS, "megatron:tp=4,ep=1,etp=4", "megatron:tp=1,pp=2,ep=1"),
        (EXPERTS, "megatron:tp=1,ep=1,experts=gmm", "megatron:tp=1,pp=2,ep=1,experts=gmm")]
# A vocabulary that is padded alike for one, two and three.
BY_THREE = {**DENSE, "vocab_size": 768}
THIRDS = [(BY_THREE, "megatron:tp=2", "megatron:tp=3"), (BY_THREE, "megatron:tp=3", "megatron:tp=1,pp=2"),
          (BY_THREE, "megatron:tp=1", "megatron:tp=3,pp=2")]


def swap(rank):
    comm = reshard.torch.comm()
    # One for all, whatever the sizes: it makes a new link when they change.
    service = ReshardCopyService(comm, takes_temporaries=True)
    built = {tp: [jobs.Job(DENSE, f"megatron:tp={tp}", rank) for _ in range(2)] for tp in (1, 2, 4)}
    pairs = [(built[a][0], built[b][1]) for a, b in itertools.product(built, repeat=2)]
    swap_pairs(service, pairs + made(rank, MORE))
    swap_pairs(ReshardCopyService(comm), made(rank, MORE[:1]))
    for takes_temporaries in (False, True):
        operations(comm, rank, takes_temporaries)
    what_others_see(comm, rank)
    faults(comm, rank)


def made(rank, pairs):
    return [(jobs.Job(config, source, rank), jobs.Job(config, target, rank)) for config, source, target in pairs]


def thirds(rank):
    """On six ranks."""
    swap_pairs(ReshardCopyService(reshard.torch.comm(), takes_temporaries=True), made(rank, THIRDS))


def swap_pairs(service, pairs):
    for source, target in pairs:
        if hasattr(target.model, "_cached_reshard_plan"):
            del target.model._cached_reshard_plan  # of another source
        pointers = target.pointers()
        for step in (0, 1):
            source.fill(step)
            target.poison()
            swap_model_weights(source.model, target.model, refit_method=service)
            target.check(step)
        assert pointers == target.pointers()


def submit(service, operations, order):
    """Those with an id anywhere, at the other end elsewhere; the others in their order."""
    with_id = [operation for operation in operations if operation[0] is not None]
    mixed = [operation for operation in operations if operation[0] is None]
    for operation in with_id:
        mixed.insert(order.randrange(len(mixed) + 1), operation)
    for task, is_send, tensor, peer in mixed:
        key = () if task is None else (task,)
        name = ("submit_send" if is_send else "submit_recv") + "_with_id" * len(key)
        getattr(service, name)(*key, tensor, peer)


def operations(comm, rank, takes_temporaries, seed=11):
    """Random sends with and without ids, of several types, among all ranks and to oneself."""
    service = ReshardCopyService(comm, takes_temporaries=takes_temporaries)
    chosen = random.Random(seed)  # the same choices on every rank
    for _ in range(3):
        expected, submitted = [], []
        for task, source in enumerate(chosen.choices(range(comm.size), k=60)):
            target, has_id = chosen.randrange(comm.size), chosen.random() < 0.7
            dtype = chosen.choice([torch.float32, torch.bfloat16, torch.int8])
            shape = chosen.randrange(5), chosen.randrange(1, 8)
            values = (torch.arange(shape[0] * shape[1]) % 50 + task).reshape(shape).to(dtype)
            into = torch.full(shape, -1).to(dtype)
            submitted += [(task if has_id else None, True, values, target)] * (rank == source)
            submitted += [(task if has_id else None, False, into, source)] * (rank == target)
            expected += [(task, into, values)] * (rank == target)
        submit(service, submitted, random.Random(seed + rank))
        service.run()
        for task, into, values in expected:
            assert torch.equal(into, values), f"seed {seed}, task {task}"


def what_others_see(comm, rank):
    """Memory that is seen by more than the tensor to receive into is written, whoever sees it; a temporary may move."""
    service = ReshardCopyService(comm, takes_temporaries=True)
    for peer in (rank, (rank + 1) % comm.size):  # from and to oneself; in a ring
        parameter, whole, array = torch.nn.Parameter(torch.zeros(6)), torch.zeros(2, 6), np.zeros(6, np.float32)
        exported, given_away, temporary = torch.zeros(6), torch.zeros(6), torch.zeros(6)
        seen = [parameter.detach(), whole[1], torch.from_numpy(array), exported.numpy(), np.from_dlpack(given_away)]
        given = [parameter.data[:], whole[1], torch.from_numpy(array), exported, given_away, temporary]
        where = [tensor.data_ptr() for tensor in given]
        for task, into in enumerate(given):
            service.submit_send_with_id(task, torch.arange(6.0) + task, peer)
            service.submit_recv_with_id(task, into, (rank + rank - peer) % comm.size)
        service.run()
        for task, into in enumerate(given):
            assert into.tolist() == list(range(task, task + 6))
        assert [tensor.tolist() for tensor in seen] == [tensor.tolist() for tensor in given[:-1]]
        assert [tensor.data_ptr() for tensor in given[:-1]] == where[:-1] and temporary.data_ptr() != where[-1]


def faults(comm, rank):
    """Each is told on every rank, and the next run is right."""
    service, values, into = ReshardCopyService(comm, timeout=20.0), torch.ones(3), torch.zeros(3)
    raises(reshard.InvalidArgument, "rank 4 is none", service.submit_send, values, 4)
    if rank == 1:
        service.submit_send_with_id(7, values, 1)
    raises(reshard.InvalidArgument, "(0, 7)" if rank == 1 else "rank 1 has operations", service.run)
    for ids in ((5, 6), (5, None)):  # another id at the other end; a send that nobody takes
        if rank == 0:
            service.submit_send_with_id(ids[0], values, 2)
        if rank == 2 and ids[1]:
            service.submit_recv_with_id(ids[1], into, 0)
        raises(reshard.LayoutMismatch, "from rank 0 to 2", service.run)
    if rank == 0:
        service.submit_send_with_id(5, values, 2)
    if rank == 2:
        service.submit_recv_with_id(5, into, 0)
    service.run()
    assert rank != 2 or torch.equal(into, values)
    ReshardCopyService(comm).run()  # nothing at all
    for count in (3, 3, 5):  # sizes change between two ranks, and not between the others
        values, into = torch.ones(count if rank < 2 else 2), torch.zeros(count if rank < 2 else 2)
        if rank % 2:
            service.submit_recv_with_id(1, into, rank - 1)
        else:
            service.submit_send_with_id(1, values, rank + 1)
        service.run()
        assert not rank % 2 or torch.equal(into, values)


if __name__ == "__main__":
    jobs.run_world(4, swap)
    jobs.run_world(6, thirds)
