#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Megatron-Core's modules as the trainer of vLLM's: the real engines of both sides around real modules of both packages.

Two trainers (tensor parallel), two workers (tensor parallel), each a process. A worker must hold what vLLM's own loaders
make of the checkpoint's whole tensors, which are numbered in closed form (megatron_jobs.whole). Nothing generates here:
that live engines do is what vllm_engine_test.py looks at.
"""
import logging
import multiprocessing
import pathlib
import sys
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "families"))
import record_vllm  # first: it says how vLLM is to be loaded
import torch
from vllm.config import set_current_vllm_config

import megatron_jobs as jobs
import settings

FORK = multiprocessing.get_context("fork")
MODEL = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96, "vocab_size": 200, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 64, "torch_dtype": "float32"}
DENSE = {**MODEL, "model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": False}
EXPERTS = {**MODEL, "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "moe_intermediate_size": 32,
           "num_experts": 4, "num_experts_per_tok": 2, "mlp_only_layers": [0], "tie_word_embeddings": False}
CASES = [(DENSE, "megatron:tp=2", "vllm:tp=2"), (EXPERTS, "megatron:tp=1,pp=2,experts=gmm", "vllm:tp=2,ep=2")]
NAMES = {"self_attn.q_proj": "q", "self_attn.k_proj": "k", "self_attn.v_proj": "v", "self_attn.o_proj": "o",
         "input_layernorm": "norm1", "post_attention_layernorm": "norm2"}
DENSE_LAYER = {"mlp.gate_proj": "gate", "mlp.up_proj": "up", "mlp.down_proj": "down"}
QWEN = {"self_attn.q_norm": "q_norm", "self_attn.k_norm": "k_norm"}


def checkpoint(config, step):
    """(name, tensor) of the files."""
    def tensor(layer, part):
        return torch.from_numpy(jobs.whole(config, layer, part)) + step

    for name, part in (("model.embed_tokens", "vocabulary"), ("model.norm", "norm"), ("lm_head", "output")):
        yield f"{name}.weight", tensor(0, part)
    is_qwen = config["model_type"] == "qwen3_moe"
    for layer in range(config["num_hidden_layers"]):
        has_experts = is_qwen and layer not in config["mlp_only_layers"]
        for name, part in {**NAMES, **(QWEN if is_qwen else {}), **({"mlp.gate": "router"} if has_experts else DENSE_LAYER)}.items():
            yield f"model.layers.{layer}.{name}.weight", tensor(layer, part)
        for part in ("gate", "up", "down") if has_experts else ():
            for expert, values in enumerate(tensor(layer, f"experts.{part}")):
                yield f"model.layers.{layer}.mlp.experts.{expert}.{part}_proj.weight", values


def built(config, text, rank):
    return record_vllm.Worker(config, settings.parse(text), rank, "float32")


def as_loaded(config, text, rank, step):
    """What vLLM's loaders make of the files."""
    with built(config, text, rank) as worker, set_current_vllm_config(worker.config), torch.no_grad():
        worker.model.load_weights(checkpoint(config, step))
        return {name: tensor.detach().clone() for name, tensor in worker.model.named_parameters()}


def worker(config, text, rank, connection):
    """A worker's process: does what it is called for, and answers with what went wrong."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    expected = [as_loaded(config, text, rank, step) for step in (0, 1)]
    with built(config, text, rank) as made:
        from reshard.vllm.engine import Engine
        for module in made.model.modules():  # a CPU's steps put weights where they cannot be looked at
            module.quant_method = None
        for parameter in made.model.parameters():
            parameter.data.fill_(jobs.POISON)
        engine, calls = Engine(None, made.config, torch.device("cpu"), made.model), {}
        calls["init_weight_transfer_engine"] = lambda info: engine.init_transfer_engine(engine.parse_init_info(info))
        calls["start_weight_update"] = engine.start_weight_update
        calls["update_weights"] = lambda info: engine.receive_weights(engine.parse_update_info(info))
        calls["finish_weight_update"] = engine.finish_weight_update
        calls["check"] = lambda step: check(made.model, expected[step])
        while (asked := connection.recv()) is not None:
            try:
                connection.send(calls[asked[0]](*asked[1]))
            except BaseException:
                connection.send(traceback.format_exc())


def check(model, expected):
    found = dict(model.named_parameters())
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    for name, tensor in expected.items():
        wrong = (found[name] != tensor).sum().item()
        assert not wrong, f"{name} of {tuple(tensor.shape)}: {wrong} elements are wrong"


class Server:
    """The control plane of one replica."""

    def __init__(self, config, text):
        count = settings.num_ranks(settings.parse(text))
        self.connections, self.processes = [], []
        for rank in range(count):
            ours, theirs = FORK.Pipe()
            self.connections.append(ours)
            self.processes.append(FORK.Process(target=worker, args=(config, text, rank, theirs), daemon=True))
            self.processes[-1].start()

    def __getattr__(self, name):
        def call(*arguments):
            for connection in self.connections:
                connection.send((name, arguments))
            answers = [connection.recv() for connection in self.connections]
            if any(answers):
                raise RuntimeError("\n".join(filter(None, answers)))
        return call

    def stop(self):
        for connection, process in zip(self.connections, self.processes):
            connection.send(None)
            process.join(20)


def trainer(rank, config, text, server):
    from reshard.vllm.source import ShardSource
    from reshard.vllm.trainer import ReshardTrainerInitInfo, TrainerEngine
    job = jobs.Job(config, text, rank)
    info = ReshardTrainerInitInfo(rank=rank, num_trainer_ranks=2, workers_per_replica=2, timeout=60)
    engine = TrainerEngine.trainer_init(info, client=server if rank == 0 else None,
                                        source=ShardSource.of_megatron(job.model, config))
    for step in (0, 1):
        job.fill(step)
        engine.send_weights()
        if rank == 0:
            server.check(step)
    engine.shutdown()


def main():
    record_vllm.use_any_kernel()
    record_vllm.look_at_models_here()
    for config, source, target in CASES:
        server = Server(config, target)  # before the first comm
        try:
            jobs.run_world(2, trainer, config, source, server, timeout=100)
        except AssertionError as problem:
            raise AssertionError(f"{config['model_type']}: {source} to {target}") from problem
        finally:
            server.stop()
        print(f"{config['model_type']}: {source} to {target}: as vLLM's loaders have it", flush=True)


if __name__ == "__main__":
    sys.exit(main())
