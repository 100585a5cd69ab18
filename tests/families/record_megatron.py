#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What each rank of a Megatron-Core job holds, as its modules say it: records of some families, for tests without it.

usage: record_megatron.py FOLDER [FAMILY...] [--check]

Writes FOLDER/megatron/FAMILY.json from the checkpoints of FOLDER/FAMILY.json. The GPTModel of every rank is built on
the CPU, in one process, from modules of plain torch (the "local" spec). Where its memory lies in the whole of a
parameter is asked of its sharded_state_dict, which its checkpoints are made with: a parameter that is filled with 0, 1,
2, ... comes back in pieces, each with its place. How q, k and v, or gate and up, make such a whole is written here,
for Megatron has no other names; that its attention and its MLP take a whole apart in the same way is tried first.
"""
import argparse
import json
import logging
import pathlib
import re
import sys

import numpy as np
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from megatron_models import build, init_groups, num_experts
import megatron.core
from megatron.core import parallel_state

import boxes
import contents
import names
import settings

MODELS = {"llama": ["small", "tied", "few_kv_heads"], "qwen3": ["small", "tied"], "qwen3_moe": ["small", "some_dense"],
          "mixtral": ["small"], "deepseek_v3": ["small", "moonlight", "mtp"], "kimi_k2": ["small"], "glm4_moe": ["mtp"]}


def new_group(ranks=None, **_):
    return make_group(ranks, backend="fake")


make_group, dist.new_group = dist.new_group, new_group


class Rank:
    """The model of one rank, as long as the with statement lasts."""

    def __init__(self, config, setting, rank):
        self.config, self.setting, self.rank = config, setting, rank

    def __enter__(self):
        setting = self.setting
        dist.init_process_group("fake", rank=self.rank, world_size=settings.num_ranks(setting), store=FakeStore())
        init_groups(setting)
        self.model = build(self.config, setting)
        return self

    def __exit__(self, *_):
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()


WHOLES = {  # parameter of Megatron -> where it is in a checkpoint's layer
    "input_layernorm.weight": "input_layernorm.weight", "pre_mlp_layernorm.weight": "post_attention_layernorm.weight",
    "self_attention.linear_proj.weight": "self_attn.o_proj.weight",
    "self_attention.linear_q_proj.weight": "self_attn.q_proj.weight",
    "self_attention.linear_q_down_proj.weight": "self_attn.q_a_proj.weight",
    "self_attention.linear_q_up_proj.weight": "self_attn.q_b_proj.weight",
    "self_attention.linear_kv_down_proj.weight": "self_attn.kv_a_proj_with_mqa.weight",
    "self_attention.linear_kv_up_proj.weight": "self_attn.kv_b_proj.weight",
    "self_attention.kv_layernorm.weight": "self_attn.kv_a_layernorm.weight",
    "self_attention.k_layernorm.weight": "self_attn.k_norm.weight", "mlp.linear_fc2.weight": "mlp.down_proj.weight",
    "mlp.router.weight": "mlp.gate.weight", "mlp.router.expert_bias": "mlp.gate.e_score_correction_bias",
    "mlp.shared_experts.linear_fc2.weight": "mlp.shared_experts.down_proj.weight",
    "enorm.weight": "enorm.weight", "hnorm.weight": "hnorm.weight", "eh_proj.weight": "eh_proj.weight",
    "final_layernorm.weight": "shared_head.norm.weight"}  # of layers for multi-token prediction
OUTSIDE = {"embedding.word_embeddings.weight": "model.embed_tokens.weight", "output_layer.weight": "lm_head.weight",
           "decoder.final_layernorm.weight": "model.norm.weight"}
GROUPED = re.compile(r"(mlp\.experts)()\.(weight[12])")
EXPERT = re.compile(r"(.*mlp\.experts\.)local_experts\.(\d+)\.(linear_fc\d\.weight)")


class Wholes:
    """The whole of each parameter, in numbers of the checkpoint's elements."""

    def __init__(self, config, checkpoint):
        self.config, self.checkpoint = config, checkpoint

    def of(self, name, num_rows):
        if name in OUTSIDE:
            tensor = OUTSIDE[name]
            if tensor not in self.checkpoint.shapes:
                tensor = OUTSIDE["embedding.word_embeddings.weight"]  # tied
            array = self.checkpoint.numbers(tensor)
            return np.pad(array, [(0, num_rows - array.shape[0])] + [(0, 0)] * (array.ndim - 1))  # zeros
        block, _, layer, suffix = name.split(".", 3)
        if block == "mtp":
            layer, suffix = self.config["num_hidden_layers"] + int(layer), suffix.removeprefix("transformer_layer.")
        return self.in_layer(f"model.layers.{layer}.", suffix)

    def in_layer(self, prefix, suffix):
        numbers = lambda name: self.checkpoint.numbers(prefix + name)  # noqa: E731
        if suffix == "self_attention.linear_qkv.weight":
            hidden, groups = self.config["hidden_size"], self.config["num_key_value_heads"]
            heads = [numbers(f"self_attn.{name}_proj.weight").reshape(groups, -1, hidden) for name in "qkv"]
            return np.concatenate(heads, axis=1).reshape(-1, hidden)
        if suffix == "self_attention.q_layernorm.weight":
            return numbers("self_attn.q_norm.weight" if self.has("self_attn.q_norm.weight", prefix)
                           else "self_attn.q_a_layernorm.weight")
        expert = EXPERT.fullmatch(suffix) or GROUPED.fullmatch(suffix)
        is_mixtral = self.has("block_sparse_moe.gate.weight", prefix)
        if expert:
            parts = {True: ("w1", "w3", "w2"), False: ("gate_proj", "up_proj", "down_proj")}[is_mixtral]
            root = "block_sparse_moe.experts." if is_mixtral else "mlp.experts."
            gate, up, down = (numbers(f"{root}{part}.weight") for part in parts)
            return np.concatenate([gate, up], axis=1) if expert.group(3) in ("linear_fc1.weight", "weight1") else down
        if suffix.endswith("linear_fc1.weight"):
            module = suffix.removesuffix("linear_fc1.weight")
            return np.concatenate([numbers(f"{module}{part}_proj.weight") for part in ("gate", "up")])
        return numbers("block_sparse_moe.gate.weight" if is_mixtral and suffix == "mlp.router.weight"
                       else WHOLES[suffix])

    def has(self, name, prefix):
        return prefix + name in self.checkpoint.shapes


def pieces_of(sharded):
    """The ShardedTensors of an entry; what a factory makes of it, if it is one."""
    built = sharded.build() if hasattr(sharded, "build") else sharded
    return built if isinstance(built, list) else [built]


def memory_of(rank, wholes):
    """{parameter under the number of its layer in the model: (type, array)}."""
    found = {}
    tensors = {**dict(rank.model.named_parameters()), **dict(rank.model.named_buffers())}
    for tensor in tensors.values():
        tensor.data = torch.arange(tensor.numel(), dtype=torch.float32).reshape(tensor.shape)
    replicas = parallel_state.get_data_parallel_group(with_context_parallel=True)
    sharded = rank.model.sharded_state_dict(metadata={"non_homogeneous_layers": True, "dp_cp_group": replicas})
    for name, tensor in tensors.items():
        if name not in sharded:
            assert name.endswith("local_tokens_per_expert") or "rotary" in name, f"{name} is in no checkpoint"
            continue
        pieces = pieces_of(sharded[name])
        layer = re.match(r"decoder\.layers\.\d+\.", pieces[0].key)
        full_name = re.sub(r"decoder\.layers\.\d+\.", layer.group(0), name) if layer else name
        memory = np.full(tensor.numel(), boxes.UNTOUCHED)
        for piece in pieces:
            whole = wholes.of(full_name, piece.global_shape[0])
            assert tuple(piece.global_shape) == whole.shape, f"{name}: {piece.global_shape}, not {whole.shape}"
            prepended = piece.prepend_axis_num
            here = tuple(slice(first, first + 1) if axis < prepended
                         else slice(first, first + piece.local_shape[axis - prepended])
                         for axis, first in enumerate(piece.global_offset))
            memory[piece.data.long().numpy().ravel()] = whole[here].ravel()
        # Trainers make all of it bf16 (Float16Module) but for the bias, which the router turns back into fp32.
        dtype = "F32" if name.endswith("expert_bias") else "BF16"
        found[full_name] = (dtype, memory.reshape(memory_shape(rank, name, tensor)))
    return found


def memory_shape(rank, name, tensor):
    """The parameter's own shape; of grouped experts that in which Megatron looks at it when it runs."""
    if not name.endswith(("mlp.experts.weight1", "mlp.experts.weight2")):
        return tuple(tensor.shape)
    local_experts, hidden = num_experts(rank.config) // max(1, rank.setting["ep"]), rank.config["hidden_size"]
    return (local_experts, hidden, -1) if name.endswith("1") else (local_experts, -1, hidden)


def check_orders(models):
    """That Megatron takes linear_qkv and linear_fc1 for what Wholes says: asked of the modules, with a unit matrix."""
    model = models["small"]
    config, checkpoint = model["config"], boxes.Checkpoint(names.expand(model["files"]))
    with Rank(config, settings.parse("megatron:tp=1"), 0) as rank:
        layer, wholes = rank.model.decoder.layers[0], Wholes(config, checkpoint)

        def numbers(name):
            return torch.tensor(checkpoint.numbers(f"model.layers.0.{name}_proj.weight")).float()

        for parameter, name in ((layer.self_attention.linear_qkv.weight, "self_attention.linear_qkv.weight"),
                                (layer.mlp.linear_fc1.weight, "mlp.linear_fc1.weight")):
            parameter.data = torch.tensor(wholes.of(f"decoder.layers.0.{name}", 0)).float()
        unit = torch.eye(config["hidden_size"])[:, None]  # a sequence of unit vectors, a batch of one
        with torch.no_grad():
            for part, found in zip("qkv", layer.self_attention.get_query_key_value_tensors(unit)):
                assert torch.equal(found.flatten(1).T, numbers(f"self_attn.{part}")), part
            activated = []
            layer.mlp.config.activation_func = lambda half: activated.append(half) or half
            layer.mlp(unit)
        assert torch.equal(activated[0].flatten(1).T, numbers("mlp.gate")), "gate"


def record_model(variant, model):
    checkpoint = boxes.Checkpoint(names.expand(model["files"]))
    config = model["config"]
    table, ranks = contents.Table(), {}
    for text in settings.megatron_texts(config, variant, num_experts(config)):
        setting, ranks[text] = settings.parse(text), []
        for number in range(settings.num_ranks(setting)):
            with Rank(config, setting, number) as rank:
                held = memory_of(rank, Wholes(config, checkpoint))
            ranks[text].append(table.add_rank({name: (dtype, list(array.shape), boxes.cut(checkpoint, array))
                                               for name, (dtype, array) in held.items()}))
    return {"ranks": ranks, "lines": list(table.lines)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("families", nargs="*")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    failed = 0
    check_orders(json.loads((arguments.folder / "llama.json").read_text(encoding="utf-8"))["models"])
    for family in arguments.families or MODELS:
        models = json.loads((arguments.folder / f"{family}.json").read_text(encoding="utf-8"))["models"]
        record = {"family": family, "package": f"megatron-core {megatron.core.__version__}",
                  "models": {variant: record_model(variant, models[variant]) for variant in MODELS[family]}}
        failed += not contents.write_or_check(arguments.folder / "megatron" / f"{family}.json", record, arguments.check)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
