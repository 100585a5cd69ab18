#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""reshard.torch against the real torch, in 4 processes: DTensors, FSDP1 and FSDP2 modules, local memory in and out.

usage: test_torch.py [--seed N] [--rounds N]

What a rank must hold afterwards is computed by torch itself, with distribute_tensor, from tensors that number their
elements; destinations are filled with -1 first.
"""
import argparse
import itertools
import random

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.distributed.tensor.placement_types import _StridedShard

import reshard
import reshard.torch
from reshard.torch._pieces import held_on_mesh
from reshard.torch._placements import held
from torch_case import run_ranks

NUM_RANKS = 4
EXTENTS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 13)
DTYPES = (torch.float32, torch.bfloat16, torch.int64, torch.uint8)


def numbered(shape, dtype, first):
    """A tensor whose elements differ, as far as its dtype can hold."""
    count = torch.Size(shape).numel()
    return (torch.arange(first, first + count) % 251).reshape(shape).to(dtype)


def same(expected, found, what):
    assert expected.shape == found.shape, f"{what}: shape {tuple(found.shape)} instead of {tuple(expected.shape)}"
    assert torch.equal(expected, found), f"{what}:\n{found}\ninstead of\n{expected}"


# ---------------------------------------------------------------------------------------------------------- DTensors

def meshes():
    """Every rank makes every mesh, in one order: groups are made with them."""
    return [init_device_mesh("cpu", (4,)), init_device_mesh("cpu", (2, 2)), init_device_mesh("cpu", (2, 1, 2)),
            DeviceMesh("cpu", [[3, 1], [0, 2]]), DeviceMesh("cpu", [2, 0]), DeviceMesh("cpu", [1, 2, 3])]


def random_placement(rng, dims):
    kind = rng.choice(["replicate", "shard", "shard", "strided"]) if dims else "replicate"
    if kind == "replicate":
        return Replicate()
    dim = rng.randrange(dims)
    return Shard(dim) if kind == "shard" else _StridedShard(dim, split_factor=rng.choice([1, 2, 3, 4]))


def local_part(tensor, mesh, placements):
    """What torch gives this rank of a tensor, by its placements one after the other, or None outside of the mesh."""
    if mesh.get_coordinate() is None:
        return None
    return distribute_tensor(tensor, mesh, placements, src_data_rank=None).to_local()


def placed(local, mesh, placements, shape, dtype):
    """A DTensor around a rank's part, the same for ranks outside of the mesh."""
    local = torch.empty(0, dtype=dtype) if local is None else local
    strides = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(local, mesh, placements, run_check=False, shape=torch.Size(shape), stride=strides)


def strided_copy(rng, local):
    """The same part in memory that is not row-major: a transposed or a padded allocation."""
    if local.dim() < 2 or rng.random() < 0.5:
        return local
    if rng.random() < 0.5:
        return local.transpose(0, -1).contiguous().transpose(0, -1)
    wider = torch.full((*local.shape[:-1], local.shape[-1] + 3), 77, dtype=local.dtype)
    wider[..., 2:-1] = local
    return wider[..., 2:-1]


def check_random_dtensors(seed, rounds):
    all_meshes, rng = meshes(), random.Random(seed)
    for number in range(rounds):
        src, dst, wanted = {}, {}, {}
        memory = random.Random(f"{seed} {number} {dist.get_rank()}")  # each rank has its own strides
        for index in range(rng.randint(1, 12)):
            shape = [rng.choice(EXTENTS) for _ in range(rng.randint(0, 3))]
            name, dtype = f"layers.{index // 3}.t{index}", rng.choice(DTYPES)
            whole = numbered(shape, dtype, 17 * index)
            for state in (src, dst):
                mesh = rng.choice(all_meshes[:4] if state is src else all_meshes)
                placements = [random_placement(rng, len(shape)) for _ in range(mesh.ndim)]
                local = local_part(whole, mesh, placements)
                if state is dst:
                    wanted[name] = local
                    local = None if local is None else torch.full_like(local, 3)
                if local is not None:
                    local = strided_copy(memory, local)
                state[name] = placed(local, mesh, placements, shape, dtype)
        reshard.torch.sync(src, dst)
        for name, expected in wanted.items():
            if expected is not None:
                what = f"seed {seed}, round {number}, {name}: {src[name]._spec} to {dst[name]._spec}"
                same(expected, dst[name].to_local(), what)


def check_uneven_tensor_parallel():
    """Against full_tensor: what torch itself puts together of the pieces, and conversion on the way."""
    mesh = init_device_mesh("cpu", (2, 2))
    for shape in ([5, 3], [7, 6], [1, 9]):
        src = distribute_tensor(numbered(shape, torch.float32, 0), mesh, [Shard(0), Shard(1)])
        dst = distribute_tensor(torch.full(shape, -1, dtype=torch.bfloat16), mesh, [Shard(1), Shard(0)])
        reshard.torch.sync({"w": src}, {"w": dst})
        same(src.full_tensor().bfloat16(), dst.full_tensor(), f"{shape}")


class Coordinate:
    """A DeviceMesh as one rank sees it, of more ranks than this test has."""

    def __init__(self, sizes, place):
        self.sizes, self.place, self.ndim = sizes, place, len(sizes)

    def get_coordinate(self):
        return self.place

    def size(self, axis):
        return self.sizes[axis]


def check_fsdp2_over_uneven_tensor_parallelism():
    """FSDP2 chunks what tensor parallelism left on the rank, also where its own placements say something else."""
    num_differing = 0
    for extent, dp, tp in itertools.product(range(1, 12), range(1, 5), range(2, 5)):
        placements = [_StridedShard(0, split_factor=tp), Shard(0)]
        for place in itertools.product(range(dp), range(tp)):
            rows = list(range(extent))
            for size, index in ((tp, place[1]), (dp, place[0])):
                each = -(-len(rows) // size)
                rows = rows[index * each:(index + 1) * each]
            mesh = Coordinate([dp, tp], list(place))
            dims = held_on_mesh("w", torch.empty(len(rows), 2), (extent, 2), mesh, placements, None, True)
            found = [row for begin, end in dims[0] for row in range(begin, end)]
            assert found == rows, (extent, dp, tp, place, found, rows)
            order = list(range(2))
            ranges = held((extent, 2), placements, [dp, tp], list(place), order)[0]
            num_differing += [row for begin, end in ranges for row in range(begin, end)] != rows
    assert num_differing  # else this would test nothing


def check_plain_tensors():
    """Local parts with a declared place: by their start, and by a mesh; views of one fused tensor; a whole tensor."""
    rank, mesh = dist.get_rank(), init_device_mesh("cpu", (4,))
    whole = {name: numbered((10, 6), torch.float32, first) for name, first in (("q", 0), ("k", 60), ("v", 120))}
    cuts = [0, 1, 1, 7, 10]
    src = {name: reshard.torch.Local(tensor[cuts[rank]:cuts[rank + 1]].clone(), (10, 6), start=(cuts[rank], 0))
           for name, tensor in whole.items()}
    fused = torch.full((9, 6), -1.0)  # rows of q, k and v, one behind another
    parts = {name: local_part(tensor, mesh, [Shard(0)]) for name, tensor in whole.items()}
    rows = len(parts["q"])
    dst = {name: reshard.torch.Local(fused[index * rows:(index + 1) * rows], (10, 6), mesh=mesh, placements=[Shard(0)])
           for index, name in enumerate(whole)}
    reshard.torch.sync(src, dst)
    same(torch.cat(list(parts.values())), fused[:3 * rows], "fused rows")
    same(torch.full((9 - 3 * rows, 6), -1.0), fused[3 * rows:], "memory behind them")
    copies = {name: torch.zeros_like(tensor) for name, tensor in whole.items()} if rank == 3 else None
    reshard.torch.sync(src, copies)
    for name in copies or {}:
        same(whole[name], copies[name], name)


# ------------------------------------------------------------------------------------------------------------ modules

class Layer(torch.nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.up, self.down = torch.nn.Linear(width, inner, bias=False), torch.nn.Linear(inner, width)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("cache", torch.ones(3), persistent=False)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(x))) * self.scale


class Model(torch.nn.Module):
    def __init__(self, width=6, inner=10, tied=False):
        super().__init__()
        self.embed = torch.nn.Linear(5, width, bias=False)
        self.layers = torch.nn.ModuleList(Layer(width, inner) for _ in range(2))
        self.head = torch.nn.Linear(5, width, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, x):
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return x @ self.head.weight


def filled(model, first=0):
    """The model with numbered weights, small enough that a step of training changes them by less than they differ."""
    with torch.no_grad():
        for index, (_, value) in enumerate(model.named_parameters()):
            value.copy_(numbered(value.shape, torch.float32, first + 31 * index) / 64)
    return model


def empty_state(model):
    return {name: torch.full_like(value, -1) for name, value in model.state_dict().items()}


def train(model, steps=1):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(steps):
        model(torch.full((3, 5), 0.5 + step + dist.get_rank())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def fsdp2_models():
    """(what, module, its weights as torch's own state dict has them) of fully_shard, alone and over tensor parallelism."""
    flat, grid = init_device_mesh("cpu", (4,)), init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    for what, mesh in (("fsdp2", flat), ("hsdp2", grid)):
        model = filled(Model())
        for layer in model.layers:
            fully_shard(layer, mesh=mesh)
        yield what, fully_shard(model, mesh=mesh)
    for width, inner in ((6, 12), (6, 5), (6, 9)):  # rows of 5 and 9 are uneven on tensor parallelism and on FSDP
        model = filled(Model(width, inner))
        for layer in model.layers:
            parallelize_module(layer, grid["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
            fully_shard(layer, mesh=grid["dp"])
        yield f"fsdp2 over tp, inner {inner}", fully_shard(model, mesh=grid["dp"])


def check_fsdp2():
    for what, model in fsdp2_models():
        inner = model.layers[0].up.weight.shape[0]
        whole = filled(Model(inner=inner))
        copy = empty_state(whole)
        reshard.torch.sync(model, copy)
        for name, value in whole.state_dict().items():
            same(value, copy[name], f"{what}: {name}")
        if inner % 2 == 0:  # torch itself does not train uneven tensor parallelism
            train(model, 2)  # leaves the root unsharded
            reshard.torch.sync(model, copy)
            for name, value in model.state_dict().items():
                same(value.full_tensor() if isinstance(value, DTensor) else value, copy[name], f"{what} trained: {name}")
            with torch.no_grad():
                model(torch.ones(3, 5))  # without a backward pass the root stays unsharded
        back = filled(Model(inner=inner), first=3)
        reshard.torch.sync(back, model)  # into the live parameters
        model.reshard()  # the sharded ones, which would forget what only the unsharded root got
        reshard.torch.sync(model, copy)
        for name, value in back.state_dict().items():
            same(value, copy[name], f"{what}, into it: {name}")


def check_fsdp1():
    grid = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replica", "shard"))
    for use_orig_params in (False, True):
        for strategy, mesh in ((ShardingStrategy.FULL_SHARD, None), (ShardingStrategy.NO_SHARD, None),
                               (ShardingStrategy.HYBRID_SHARD, grid)):
            for tied in (False, True):
                what = f"fsdp1, use_orig_params={use_orig_params}, {strategy}, tied={tied}"
                model = FullyShardedDataParallel(
                    filled(Model(tied=tied)), auto_wrap_policy=ModuleWrapPolicy({Layer}), sharding_strategy=strategy,
                    device_mesh=mesh, use_orig_params=use_orig_params, device_id=torch.device("cpu"))
                copy = empty_state(Model(tied=tied))
                for steps in (0, 2):  # before and after the parameters are initialised lazily
                    train(model, steps)
                    reshard.torch.sync(model, copy)
                    with FullyShardedDataParallel.summon_full_params(model, writeback=False):
                        whole = {name.replace("_fsdp_wrapped_module.", ""): value.detach().clone()
                                 for name, value in model.named_parameters(remove_duplicate=False)}
                    assert set(copy) == set(whole) | {"layers.0.scale", "layers.1.scale"}, set(copy) ^ set(whole)
                    for name, value in whole.items():
                        same(value, copy[name], f"{what}, {steps} steps: {name}")
                back = filled(Model(tied=tied), first=5)
                reshard.torch.sync(back, model)
                with FullyShardedDataParallel.summon_full_params(model, writeback=False):
                    for (name, value), expected in zip(model.named_parameters(), back.parameters()):
                        same(expected, value, f"{what}, into it: {name}")


def check_session():
    """Bound once: values of each step, groups in their order, on a comm of a part of the ranks."""
    members = dist.new_group([1, 3])
    if dist.get_rank() not in (1, 3):
        return
    comm = reshard.torch.comm(members)
    assert (comm.rank, comm.size) == ((dist.get_rank() - 1) // 2, 2)
    model, copy = (filled(Model()), None) if comm.rank == 0 else (None, filled(Model(), first=9))
    with reshard.torch.session(model, copy, comm) as session:
        for step in range(3):
            if model:
                with torch.no_grad():
                    model.layers[1].up.weight += 1
            groups = []
            for group in session.run():
                groups.append(group)
                if copy and group == 2:
                    same(filled(Model()).layers[1].up.weight + step + 1, copy.layers[1].up.weight, f"step {step}")
            assert groups == [0, 1, 2], groups


def check_refusals():
    """One rank's fault is an error on all, names the tensor, and leaves the comm in order."""
    rank, mesh = dist.get_rank(), init_device_mesh("cpu", (4,))
    good = {"w": distribute_tensor(numbered((4, 4), torch.float32, 0), mesh, [Shard(0)])}
    partial = {"w": DTensor.from_local(torch.ones(4, 4), mesh, [Partial()])}
    wrong = {"w": placed(torch.ones(3, 4), mesh, [Shard(0)], (4, 4), torch.float32)}
    missing = {"other": torch.zeros(3), "w": good["w"]}
    for src, dst, kind, word in (
            (good if rank else {"w": 7}, good, reshard.InvalidArgument, "int"),
            (partial if rank == 2 else good, good, reshard.Error, "P(sum)"),
            (good, wrong if rank == 1 else good, reshard.InvalidArgument, "(3, 4)"),
            (good, missing, reshard.LayoutMismatch, "'other'"),
            (good, {"w": reshard.torch.Local(torch.ones(4, 5), (4, 5), start=(0, 0))}, reshard.LayoutMismatch, "shape"),
            ({"w": torch.ones(4, 4, device="meta")}, good, reshard.NotSupported, "meta")):
        try:
            reshard.torch.sync(src, dst)
        except kind as error:
            assert word in str(error), error
        else:
            raise AssertionError(f"nothing was raised where {word!r} is wrong")
    with reshard.torch.comm() as comm:
        try:
            reshard.torch.layout(good if rank != 3 else {"w": "text"}, comm, timeout=20)
        except reshard.InvalidArgument as error:
            assert "str" in str(error), error
        else:
            raise AssertionError("a layout of a text")
    target = {"w": torch.zeros(4, 4)}
    target["v"] = target["w"]  # a second name, which the source has not got
    reshard.torch.sync(good, dict(reversed(target.items())))
    same(numbered((4, 4), torch.float32, 0), target["w"], "after refusals")


def rank_main(_rank, seed, rounds):
    check_plain_tensors()
    check_uneven_tensor_parallel()
    check_random_dtensors(seed, rounds)
    check_fsdp2()
    check_fsdp1()
    check_session()
    check_refusals()
    reshard.torch.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    check_fsdp2_over_uneven_tensor_parallelism()
    print(f"torch {torch.__version__}, seed {arguments.seed}, {arguments.rounds} rounds", flush=True)
    run_ranks(NUM_RANKS, rank_main, arguments.seed, arguments.rounds)
    print("all as torch has it")


if __name__ == "__main__":
    main()
