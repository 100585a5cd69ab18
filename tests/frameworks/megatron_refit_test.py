#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Megatron models of one parallel size into those of another, in place: every element where the other job has it."""
import itertools
import sys

import megatron_jobs as jobs
import numpy as np
import reshard
import reshard.torch
import torch
from reshard.megatron import CheckpointNames, Refit, local_layout, refit, side

# Widths that 2, 3 and 4 divide; a vocabulary that is padded differently at each size.
DENSE = {"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 48, "intermediate_size": 72, "vocab_size": 200,
         "num_attention_heads": 24, "num_key_value_heads": 12, "head_dim": 4}
TIED = {**DENSE, "tie_word_embeddings": True}
FEW_GROUPS = {**DENSE, "num_key_value_heads": 2}  # fewer query groups than ranks: Megatron cuts through heads
EXPERTS = {**DENSE, "model_type": "qwen3_moe", "moe_intermediate_size": 24, "num_experts": 8, "mlp_only_layers": [0]}
SIZES = ["megatron:tp=1", "megatron:tp=2", "megatron:tp=4"]


def check_refit(comm, source, target, **options):
    """Twice over one binding: values, and that parameters are where they were."""
    bound = Refit(source.model, target.model, comm, vocab_size=source.config["vocab_size"], **options)
    pointers = target.pointers()
    for step in (0, 1):
        source.fill(step)
        target.poison()
        groups = list(bound.run())
        assert groups == sorted(groups), groups
        target.check(step)
    assert target.pointers() == pointers
    bound.close()


def pairs_of_sizes(rank, texts):
    """Every direction among jobs of these texts."""
    comm = reshard.torch.comm()
    built = {text: [jobs.Job(DENSE, text, rank) for _ in range(2)] for text in texts}
    for source, target in itertools.product(texts, repeat=2):
        if len(texts) == 3 or "tp=3" in source + target:  # twelve ranks: what four cannot do
            check_refit(comm, built[source][0], built[target][1])


CASES = [
    (DENSE, "megatron:tp=1,pp=4", "megatron:tp=4"), (DENSE, "megatron:tp=2,pp=2", "megatron:tp=1,pp=2"),
    (DENSE, "megatron:tp=2", "megatron:tp=1,pp=2,vpp=2"), (TIED, "megatron:tp=2,pp=2", "megatron:tp=4"),
    (TIED, "megatron:tp=4", "megatron:tp=1,pp=4"), (FEW_GROUPS, "megatron:tp=4", "megatron:tp=2"),
    (FEW_GROUPS, "megatron:tp=1", "megatron:tp=4"),
    (EXPERTS, "megatron:tp=2,ep=2", "megatron:tp=4,ep=4"), (EXPERTS, "megatron:tp=4,ep=4", "megatron:tp=1,ep=2"),
    (EXPERTS, "megatron:tp=1,pp=2,ep=2", "megatron:tp=2,ep=1,etp=2"),
    (EXPERTS, "megatron:tp=4,ep=2,etp=2,experts=gmm", "megatron:tp=2,ep=4,etp=1,experts=gmm"),
    (EXPERTS, "megatron:tp=2,pp=2,ep=2,experts=gmm", "megatron:tp=4,ep=1,etp=4"),  # grouped to one by one
    (EXPERTS, "megatron:tp=1,ep=4", "megatron:tp=4,ep=2,etp=2,experts=gmm"),
]


def cases(rank):
    comm = reshard.torch.comm()
    for config, source, target in CASES:
        try:
            check_refit(comm, jobs.Job(config, source, rank), jobs.Job(config, target, rank))
        except Exception as problem:
            raise AssertionError(f"{config['model_type']}: {source} to {target}") from problem
    other_dtype(comm, rank)
    servers(comm, rank)
    errors(comm, rank)


def other_dtype(comm, rank):
    """A bf16 server of an fp32 trainer: converted on the way."""
    check_refit(comm, jobs.Job(DENSE, "megatron:tp=2", rank), jobs.Job(DENSE, "megatron:tp=4", rank, torch.bfloat16))


NAMES = {"self_attn.q_proj": "q", "self_attn.k_proj": "k", "self_attn.v_proj": "v", "self_attn.o_proj": "o",
         "mlp.gate_proj": "gate", "mlp.up_proj": "up", "mlp.down_proj": "down", "input_layernorm": "norm1",
         "post_attention_layernorm": "norm2", "self_attn.q_norm": "q_norm", "self_attn.k_norm": "k_norm", "mlp.gate": "router",
         "mlp.experts.gate_proj": "experts.gate", "mlp.experts.up_proj": "experts.up", "mlp.experts.down_proj": "experts.down"}
OUTSIDE = {"model.embed_tokens": "vocabulary", "lm_head": "output", "model.norm": "norm"}


def checkpoint_tensor(config, name):
    name = name.removesuffix(".weight")
    if name in OUTSIDE:
        return jobs.whole(config, 0, OUTSIDE[name])
    layer, rest = name.removeprefix("model.layers.").split(".", 1)
    return jobs.whole(config, int(layer), NAMES[rest])


def servers(comm, rank):
    """A Megatron model as the source of layouts of texts, in the names of the checkpoint."""
    for config, source, text in ((DENSE, "megatron:tp=4", "checkpoint:ranks=4"), (TIED, "megatron:tp=2,pp=2", "vllm:tp=4"),
                                 (EXPERTS, "megatron:tp=2,ep=4,experts=gmm", "vllm:tp=2,dp=2,ep=4"),
                                 (EXPERTS, "megatron:tp=1,pp=2,ep=2", "vllm:tp=4")):
        job = jobs.Job(config, source, rank)
        job.fill()
        src = side(job.model, comm, CheckpointNames(config))
        dst = reshard.Layout.from_text(config, text, num_ranks=comm.size, dtype="F32")
        arrays = {buffer.name: np.full(buffer.size_bytes // 4, jobs.POISON, np.float32) for buffer in dst.buffers(rank)}
        reshard.Session(reshard.plan(src.layout, dst), comm, src.buffers, arrays).run().finish()
        for block in dst.blocks(rank):
            found = np.lib.stride_tricks.as_strided(arrays[block.buffer][block.offset_bytes // 4:], block.shape,
                                                    block.strides_bytes)
            here = tuple(slice(first, first + extent) for first, extent in zip(block.start, block.shape))
            expected = checkpoint_tensor(config, block.tensor)[here] if block.kind == "data" else 0
            assert (found == expected).all(), f"{source} to {text}: {block}"


def raises(kind, text, function, *arguments, **keys):
    try:
        function(*arguments, **keys)
    except kind as problem:
        assert text in str(problem), f"{problem} does not say {text}"
        return
    raise AssertionError(f"no {kind}")


class OtherMemory(torch.Tensor):
    """Stands for what TransformerEngine keeps 8-bit weights in."""


def errors(comm, rank):
    source, target = jobs.Job(DENSE, "megatron:tp=4", rank), jobs.Job(DENSE, "megatron:tp=2", rank)
    # Padded to 512 and to 256 rows, and nothing says how many are the vocabulary.
    raises(reshard.LayoutMismatch, "word_embeddings", refit, source.model, target.model, comm)
    raises(reshard.InvalidArgument, "vocab_size 9999", refit, source.model, target.model, comm,
           vocab_size=9999)
    bound = Refit(source.model, target.model, comm, vocab_size=200)
    layer = target.model.decoder.layers[0].mlp.linear_fc2
    if rank == 1:  # on one rank: the others, which get bytes from it, are told
        layer.weight.data = layer.weight.data.clone()
        raises(reshard.InvalidState, "decoder.layers.0.mlp.linear_fc2.weight has moved", bound.run)
    else:
        raises((reshard.Abandoned, reshard.PeerFailed), "", lambda: bound.run(timeout=20.0).finish())
    comm.barrier()
    if rank == 2:
        source.model.config.moe_mlp_glu_interleave_size = 8
    raises((reshard.NotSupported, reshard.InvalidArgument), "glu_interleave", refit, source.model, target.model, comm)
    layer.weight = torch.nn.Parameter(layer.weight.data.as_subclass(OtherMemory))
    raises(reshard.NotSupported, "linear_fc2.weight: a OtherMemory", local_layout, target.model, rank, comm.size)
    target.model.config.moe_mlp_glu_interleave_size = 8
    raises(reshard.NotSupported, "glu_interleave", local_layout, target.model, rank, comm.size)


def main():
    jobs.run_world(4, pairs_of_sizes, SIZES)
    jobs.run_world(4, cases)
    jobs.run_world(12, pairs_of_sizes, ["megatron:tp=1", "megatron:tp=2", "megatron:tp=3", "megatron:tp=4"])
    print("passed")


if __name__ == "__main__":
    sys.exit(main())
