#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""reshard's `megatron:` layouts of a config hold, element by element, what the modules of that config say they hold.

One process is each rank of each job in turn. The modules speak through reshard.megatron in the names of the checkpoint;
that these names mean the right elements is held against closed forms in megatron_refit_test.py and below.
"""
import json
import pathlib
import sys

import megatron_jobs as jobs
import numpy as np
import reshard
import settings
from reshard.megatron import CheckpointNames, local_layout

import record_megatron  # all groups are fake from here on
from record_megatron import MODELS, Rank, num_experts

RECORDS = pathlib.Path(__file__).resolve().parent.parent / "data" / "families"
MORE = {"llama": ["megatron:tp=2,pp=3,vocab_multiple=64"], "qwen3_moe": ["megatron:tp=4,dp=2,ep=2,etp=4,experts=gmm"]}


class Numbers:
    """A number for each element of each tensor of a layout."""

    def __init__(self, layout):
        self.first, self.shapes, number = {}, {}, 1
        for tensor in sorted(layout.tensors):
            self.first[tensor.name], self.shapes[tensor.name] = number, tensor.shape
            number += int(np.prod(tensor.shape))

    def of(self, block):
        if block.kind != "data":
            return {"zero": 0, "untouched": -1}[block.kind]
        index = np.ix_(*(range(first, first + extent) for first, extent in zip(block.start, block.shape)))
        return self.first[block.tensor] + np.ravel_multi_index(index, self.shapes[block.tensor])


def paint(layout, rank, numbers):
    """{buffer: its elements' numbers, in the order of memory}."""
    sizes = {tensor.name: reshard.dtype_size_bytes(tensor.dtype) for tensor in layout.tensors}
    unit = {block.buffer: sizes[block.tensor] for block in layout.blocks(rank)}
    memory = {buffer.name: np.full(buffer.size_bytes // unit[buffer.name], -2) for buffer in layout.buffers(rank)}
    for block in layout.blocks(rank):
        array = memory[block.buffer]
        view = np.lib.stride_tricks.as_strided(
            array[block.offset_bytes // unit[block.buffer]:], block.shape,
            [stride // unit[block.buffer] * array.itemsize for stride in block.strides_bytes])
        assert (view == -2).all(), f"{block.buffer}: blocks overlap"
        view[...] = numbers.of(block)
    return memory


def compare(config, text):
    """How many elements of how many ranks are equal."""
    setting, count = settings.parse(text), 0
    names = CheckpointNames(config, setting["mtp"])
    # Without TransformerEngine the down-projections of latent attention are cut.
    is_latent = "kv_lora_rank" in config
    expected = reshard.Layout.from_text(config, text + ",names=chunk" + ",mla_down=cut" * is_latent)
    numbers = Numbers(expected)
    for rank in range(expected.num_ranks):
        with Rank(config, setting, rank) as job:
            said = local_layout(job.model, rank, expected.num_ranks, names).layout
            shapes = {tensor.name: (tensor.shape, tensor.group) for tensor in expected.tensors}
            for tensor in said.tensors:
                assert shapes[tensor.name] == (tensor.shape, tensor.group), tensor
            found, wanted = paint(said, rank, numbers), paint(expected, rank, numbers)
        assert found.keys() == wanted.keys(), f"{text}, rank {rank}: {found.keys() ^ wanted.keys()}"
        for name, memory in wanted.items():
            assert np.array_equal(found[name], memory), f"{text}, rank {rank}: {name} holds something else"
            count += memory.size
    return count


def closed_forms():
    """The order of query groups and of gate and up in the names of the checkpoint, in numbers written here."""
    config = {"model_type": "qwen3_moe", "num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 8, "head_dim": 2,
              "vocab_size": 10, "num_attention_heads": 8, "num_key_value_heads": 2, "moe_intermediate_size": 6,
              "num_experts": 4, "mlp_only_layers": [0], "architectures": ["Qwen3MoeForCausalLM"], "torch_dtype": "float32"}
    with Rank(config, settings.parse("megatron:tp=2,ep=2,experts=gmm"), 1) as job:
        layout = local_layout(job.model, 1, 2, CheckpointNames(config)).layout
    numbers = Numbers(layout)
    memory = paint(layout, 1, numbers)

    def element(tensor, *index):
        return numbers.first["model.layers." + tensor] + np.ravel_multi_index(index, numbers.shapes["model.layers." + tensor])

    # The second of two query groups: heads 4 to 7 of q, then head 1 of k and of v.
    rows = memory["decoder.layers.1.self_attention.linear_qkv.weight"].reshape(12, 8)
    assert rows[5, 3] == element("1.self_attn.q_proj.weight", 13, 3)
    assert rows[8, 0] == element("1.self_attn.k_proj.weight", 2, 0)
    assert rows[11, 7] == element("1.self_attn.v_proj.weight", 3, 7)
    rows = memory["decoder.layers.0.mlp.linear_fc1.weight"].reshape(8, 8)
    assert rows[1, 2] == element("0.mlp.gate_proj.weight", 5, 2) and rows[6, 2] == element("0.mlp.up_proj.weight", 6, 2)
    # Experts 2 and 3, each [in, gate and up].
    experts = memory["decoder.layers.1.mlp.experts.weight1"].reshape(2, 8, 12)
    assert experts[1, 5, 4] == element("1.mlp.experts.gate_proj.weight", 3, 4, 5)
    assert experts[0, 7, 11] == element("1.mlp.experts.up_proj.weight", 2, 5, 7)
    assert memory["decoder.layers.1.mlp.experts.weight2"].reshape(2, 6, 8)[1, 4, 3] == element(
        "1.mlp.experts.down_proj.weight", 3, 3, 4)


def other_models():
    """A config of another model than the module's is refused by the name of a parameter."""
    config = json.loads((RECORDS / "llama.json").read_text())["models"]["small"]["config"]
    with Rank(config, settings.parse("megatron:tp=2"), 0) as job:
        for change in ({"num_hidden_layers": 1}, {"intermediate_size": 8}):
            try:
                local_layout(job.model, 0, 2, CheckpointNames({**config, **change}))
            except reshard.InvalidArgument as problem:
                assert "decoder.layers." in str(problem), problem
            else:
                raise AssertionError(f"{change} was taken")


def main():
    closed_forms()
    other_models()
    for family, variants in MODELS.items():
        models = json.loads((RECORDS / f"{family}.json").read_text())["models"]
        for variant in variants:
            config = models[variant]["config"]
            texts = settings.megatron_texts(config, variant, num_experts(config))
            for text in texts + (MORE.get(family, []) if variant == "small" else []):
                print(f"{family} {variant} {text}: {compare(config, text)} elements equal", flush=True)


if __name__ == "__main__":
    sys.exit(main())
