#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What each rank holds of a model of transformers under torch's FSDP2, and FSDP1: records for tests without them.

usage: record_fsdp.py FOLDER [FAMILY...] [--check]

Writes FOLDER/fsdp/FAMILY.json from the checkpoints of FOLDER/FAMILY.json. A checkpoint whose elements are numbered (in
fp32, which holds them exactly) is written to a file and loaded by from_pretrained, so that the package itself puts the
experts of the file into the fused parameters that it has in memory; fully_shard then cuts them, for every rank in this
process, with torch's "fake" process group.
"""
import argparse
import functools
import json
import pathlib
import re
import sys
import tempfile

import numpy as np
import torch
import torch.distributed as dist
import transformers
from safetensors.numpy import save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy
from torch.testing._internal.distributed.fake_pg import FakeStore

import boxes
import contents
import names
import record_transformers
import remote_code
import settings
import zoo


def numbered(checkpoint, config, folder):
    """The model of a checkpoint that has numbers for weights."""
    save_file({name: checkpoint.numbers(name).astype(np.float32) for name in checkpoint.files},
              pathlib.Path(folder) / "model.safetensors", metadata={"format": "pt"})
    model = record_transformers.new_model(config, "meta")
    model.config.save_pretrained(folder)
    return type(model).from_pretrained(folder, dtype=torch.float32)


def memory_of_rank(checkpoint, config, setting, rank, types):
    """{parameter: (type, shape, boxes)}; a shard that is empty is left out."""
    with tempfile.TemporaryDirectory() as folder:
        model = numbered(checkpoint, config, folder)
    dist.init_process_group("fake", rank=rank, world_size=settings.num_ranks(setting), store=FakeStore())
    try:
        fully_shard(model, mesh=init_device_mesh("cpu", (setting["shard"],)))
        tensors = {name: parameter.to_local() for name, parameter in model.named_parameters()}
        tensors.update({name: buffer for name, buffer in model.named_buffers() if name in types})
    finally:
        dist.destroy_process_group()
    held = {}
    for name, tensor in tensors.items():
        memory = tensor.detach().long().numpy()
        assert (memory == tensor.detach().numpy()).all() and (memory > 0).all(), f"{name} holds what no file has"
        if memory.size:
            held[name] = (types[name], list(memory.shape), boxes.cut(checkpoint, memory))
    return held


def flat_memory_of_rank(checkpoint, config, setting, rank):
    """The same under FSDP1: the vectors of its units, a unit for each decoder layer and one for what is outside."""
    with tempfile.TemporaryDirectory() as folder:
        model = numbered(checkpoint, config, folder)
    layers = {type(module) for name, module in model.named_modules() if re.fullmatch(r".*\.(layers|h)\.0", name)}
    is_aligned = setting["units"] == "aligned"
    dist.init_process_group("fake", rank=rank, world_size=settings.num_ranks(setting), store=FakeStore())
    try:
        wrapped = FullyShardedDataParallel(
            model, auto_wrap_policy=functools.partial(transformer_auto_wrap_policy, transformer_layer_cls=layers),
            use_orig_params=is_aligned, device_id=torch.device("cpu"))
        held = {}
        for name, module in wrapped.named_modules():
            if isinstance(module, FullyShardedDataParallel):
                name = f"{name.replace('_fsdp_wrapped_module.', '')}._flat_param".removeprefix(".")
                name = name.replace("_fsdp_wrapped_module", "").replace("..", ".")
                memory = chunk_of(module._handle.flat_param, rank)
                held[name] = ("F32" if is_aligned else "BF16", [len(memory)], boxes.cut_flat(checkpoint, memory))
        for name, buffer in wrapped.named_buffers():
            name = name.replace("_fsdp_wrapped_module.", "")
            if name in checkpoint.shapes:
                held[name] = ("F32", list(buffer.shape), boxes.cut(checkpoint, buffer.long().numpy()))
    finally:
        dist.destroy_process_group()
    return held


def chunk_of(flat, rank):
    """The numbers of a rank's chunk of a unit; UNTOUCHED where the chunk has padding, whatever lies there."""
    memory = flat.detach().long().numpy().copy()
    lengths = zip(flat._numels_with_padding, flat._is_padding_mask)
    is_padding = np.concatenate([np.full(length, padding) for length, padding in lengths])
    first = rank * len(memory)
    mine = is_padding[first:first + len(memory)]
    mine = np.concatenate([mine, np.full(len(memory) - len(mine), True)])  # behind the last parameter
    memory[mine] = boxes.UNTOUCHED
    return memory


def record_model(family, model):
    checkpoint, config = boxes.Checkpoint(names.expand(model["files"])), model["config"]
    types = {name: text.partition(" ")[0] for name, text in
             record_transformers.held(record_transformers.new_model(config, "meta")).items()}
    table, ranks = contents.Table(), {}
    for text in settings.FSDP:
        setting = settings.parse(text)
        ranks[text] = [table.add_rank(memory_of_rank(checkpoint, config, setting, rank, types))
                       for rank in range(settings.num_ranks(setting))]
    for text in settings.FSDP1 if family in settings.IN_FSDP1 else []:
        setting = settings.parse(text)
        ranks[text] = [table.add_rank(flat_memory_of_rank(checkpoint, config, setting, rank))
                       for rank in range(settings.num_ranks(setting))]
    return {"ranks": ranks, "lines": list(table.lines)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("families", nargs="*")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    failed = 0
    for family in arguments.families or [name for name in zoo.ZOO if name not in remote_code.FAMILIES]:
        models = json.loads((arguments.folder / f"{family}.json").read_text(encoding="utf-8"))["models"]
        record = {"family": family, "package": f"torch {torch.__version__}, transformers {transformers.__version__}",
                  "models": {"small": record_model(family, models["small"])}}
        failed += not contents.write_or_check(arguments.folder / "fsdp" / f"{family}.json", record, arguments.check)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
