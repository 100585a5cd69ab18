# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Jobs of real processes with Megatron-Core on a CPU, for tests: a world over gloo, models in it, and what they hold.

Processes are forked after the imports, which take longer than the tests. What a rank of a job must hold is said here in
closed form, from the numbers of its ranks alone: nothing of Megatron's metadata and nothing of reshard is asked.
"""
import logging
import multiprocessing
import os
import pathlib
import socket
import sys
import traceback
from contextlib import contextmanager

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "families"))

import numpy as np
import torch
import torch.distributed as dist
from torch.testing._internal.distributed import fake_pg  # noqa: F401: makes the backend "fake" known

import megatron_models
import settings
from megatron.core import parallel_state

POISON = -7.0


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def run_world(num_ranks, function, *arguments, timeout=240):
    """Forks num_ranks processes, each with a world over gloo, that call function(rank, ...). Raises what one raised."""
    port, context = free_port(), multiprocessing.get_context("fork")
    queue = context.Queue()
    ranks = [context.Process(target=_main, args=(rank, num_ranks, port, queue, function, arguments))
             for rank in range(num_ranks)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout)
    failures = []
    for rank, process in enumerate(ranks):
        if process.is_alive():
            process.kill()
            failures.append(f"rank {rank} did not end in {timeout} s")
        elif process.exitcode:
            failures.append(f"rank {rank} ended with {process.exitcode}")
    while not queue.empty():
        failures.append(queue.get())
    if failures:
        raise AssertionError("\n".join(failures))


def _main(rank, num_ranks, port, queue, function, arguments):
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=num_ranks)
        function(rank, *arguments)
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        queue.put(f"rank {rank}:\n{traceback.format_exc()}")
        queue.close()
        queue.join_thread()
        os._exit(1)


@contextmanager
def groups_without_sockets():
    """Megatron makes some thirty groups per job, and none of them communicates here."""
    make = dist.new_group
    dist.new_group = lambda ranks=None, **_: make(ranks, backend="fake")
    try:
        yield
    finally:
        dist.new_group = make


class Job:
    """The model, or its chunks, of one rank of a Megatron job that takes the whole world."""

    def __init__(self, config, text, rank, dtype=torch.float32):
        self.config, self.rank, self.setting = config, rank, {"vpp": 1, **settings.parse(text)}
        vpp = self.setting["vpp"]
        with groups_without_sockets():
            keys = {"virtual_pipeline_model_parallel_size": vpp} if vpp > 1 else {}
            parallel_state.destroy_model_parallel()  # that of the job before; Megatron asks the latest now and then
            megatron_models.init_groups(self.setting, **keys)
            self.chunks = [megatron_models.build(config, self.setting, chunk if vpp > 1 else None).to(dtype)
                           for chunk in range(vpp)]
        self.model = self.chunks if vpp > 1 else self.chunks[0]
        self.place = Place(self.setting, rank, dist.get_world_size())

    def tensors(self):
        """(chunk, name, tensor) of what a checkpoint holds."""
        for chunk, model in enumerate(self.chunks):
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
                if not name.endswith(("local_tokens_per_expert", "inv_freq")):
                    yield chunk, name, tensor.detach()

    def expected(self, step=0):
        for chunk, name, tensor in self.tensors():
            values = held(self.config, self.place, chunk, name)
            yield name, tensor, torch.tensor(np.where(values > 0, values + step, 0)).to(tensor.dtype)  # 0: padding

    def fill(self, step=0):
        for _, tensor, values in self.expected(step):
            tensor.copy_(values.reshape(tensor.shape))

    def poison(self):
        for _, _, tensor in self.tensors():
            tensor.fill_(POISON)

    def pointers(self):
        return [tensor.data_ptr() for _, _, tensor in self.tensors()]

    def check(self, step=0):
        count = 0
        for name, tensor, values in self.expected(step):
            wrong = (tensor != values.reshape(tensor.shape)).sum().item()
            assert not wrong, f"{name} of {tuple(tensor.shape)} at {self.setting}: {wrong} elements are wrong"
            count += 1
        assert count, "a rank without tensors"


class Place:
    """Which rank of which group a rank of the world is."""

    def __init__(self, setting, rank, world):
        self.setting = setting
        self.per_stage = world // setting["pp"]
        self.stage, within = divmod(rank, self.per_stage)
        self.tp, self.tp_rank = setting["tp"], within % setting["tp"]
        self.etp, self.etp_rank = setting["etp"], within % setting["etp"]
        self.ep = setting["ep"] or 1
        self.ep_rank = within // setting["etp"] % self.ep

    def first_layer(self, config, chunk):
        per_chunk = config["num_hidden_layers"] // self.setting["pp"] // self.setting["vpp"]
        return (chunk * self.setting["pp"] + self.stage) * per_chunk


def cut(array, count, index, dim):
    return np.split(array, count, axis=dim)[index]


def whole(config, layer, name):
    """The tensor of a checkpoint: each element a number that tells it apart from its neighbours, below 2^24."""
    heads, groups, head = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    hidden, width = config["hidden_size"], config["intermediate_size"]
    expert_width, experts = config.get("moe_intermediate_size", 0), config.get("num_experts", 0)
    shapes = {"q": (heads * head, hidden), "k": (groups * head, hidden), "v": (groups * head, hidden),
              "o": (hidden, heads * head), "gate": (width, hidden), "up": (width, hidden), "down": (hidden, width),
              "router": (experts, hidden), "norm1": (hidden,), "norm2": (hidden,), "norm": (hidden,),
              "q_norm": (head,), "k_norm": (head,), "vocabulary": (config["vocab_size"], hidden),
              "output": (config["vocab_size"], hidden), "experts.gate": (experts, expert_width, hidden),
              "experts.up": (experts, expert_width, hidden), "experts.down": (experts, hidden, expert_width)}
    first = 1 + 1009 * (list(shapes).index(name) + 29 * layer)
    return np.arange(first, first + np.prod(shapes[name], dtype=int), dtype=np.float32).reshape(shapes[name])


def held(config, place, chunk, name):
    """What the parameter holds, in the order of its memory."""
    if not name.startswith("decoder.layers."):
        if name == "decoder.final_layernorm.weight":
            return whole(config, 0, "norm")
        is_output = name.startswith("output_layer") and not config.get("tie_word_embeddings")
        rows = whole(config, 0, "output" if is_output else "vocabulary")
        padding = megatron_models.padded_vocabulary(config, place.setting) - len(rows)
        return cut(np.pad(rows, [(0, padding), (0, 0)]), place.tp, place.tp_rank, 0)
    number, rest = name.removeprefix("decoder.layers.").split(".", 1)
    layer = place.first_layer(config, chunk) + int(number)

    def of(part):
        return whole(config, layer, part)

    tp = (place.tp, place.tp_rank)
    if rest == "self_attention.linear_qkv.weight":
        by_group = [of(part).reshape(config["num_key_value_heads"], -1, config["hidden_size"]) for part in "qkv"]
        return cut(np.concatenate(by_group, axis=1).reshape(-1, config["hidden_size"]), *tp, 0)
    if rest == "mlp.linear_fc1.weight":
        return np.concatenate([cut(of("gate"), *tp, 0), cut(of("up"), *tp, 0)])
    if rest in ("mlp.linear_fc2.weight", "self_attention.linear_proj.weight"):
        return cut(of("down" if "fc2" in rest else "o"), *tp, 1)
    if rest.startswith("mlp.experts."):
        return held_experts(place, rest.removeprefix("mlp.experts."), of)
    return of({"input_layernorm.weight": "norm1", "pre_mlp_layernorm.weight": "norm2", "mlp.router.weight": "router",
               "self_attention.q_layernorm.weight": "q_norm", "self_attention.k_layernorm.weight": "k_norm"}[rest])


def held_experts(place, name, of):
    etp = (place.etp, place.etp_rank)
    gate_up = np.concatenate([cut(of("experts.gate"), *etp, 1), cut(of("experts.up"), *etp, 1)], axis=1)
    mine = [cut(array, place.ep, place.ep_rank, 0) for array in (gate_up, cut(of("experts.down"), *etp, 2))]
    if name in ("weight1", "weight2"):  # grouped: [experts, in, out]
        return mine[int(name[-1]) - 1].transpose(0, 2, 1)
    _, number, linear, _ = name.split(".")  # local_experts.3.linear_fc1.weight
    return mine[int(linear[-1]) - 1][int(number)]
