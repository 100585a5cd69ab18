#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What the package transformers makes of a config: records of each family's parameters, for tests without it.

usage: record_transformers.py FOLDER [FAMILY...] [--check]

Writes FOLDER/FAMILY.json for each family of zoo.py, or compares what is there with what the package gives. A record
has, for each model, its config and under "files" names, types and shapes of what a checkpoint of it holds. "memory" has
the parameters that a loaded model holds under another name or in another shape (routed experts stacked, gate and up in
one), "tied" those that are another one's storage, "text" the layout of the files where that is not "checkpoint". Small
models are really written to a file, loaded as bfloat16 and written again, so that what the package keeps in fp32 shows;
published sizes are made on the meta device.
"""
import argparse
import copy
import json
import math
import pathlib
import sys
import tempfile

import torch
import transformers
from transformers.core_model_loading import revert_weight_conversion

import mtp
import names
import remote_code
import zoo

TYPES = {torch.bfloat16: "BF16", torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}
BYTES = {"BF16": 2, "F16": 2, "F32": 4, "I64": 8}
# Published as classes of their own that are others' in the package.
SAME_CLASS = {"kimi_k2": "deepseek_v3"}


def described(tensor):
    return f"{TYPES[tensor.dtype]} {list(tensor.shape)}"


def new_model(config, device):
    """A model of the package with bf16 weights, nothing loaded."""
    config = copy.deepcopy(config)  # the package writes into what it is given
    keys = {key: value for key, value in config.items() if key not in ("model_type", "dtype", "torch_dtype")}
    family = SAME_CLASS.get(config["model_type"], config["model_type"])
    package_config = transformers.AutoConfig.for_model(family, **keys)
    kind = transformers.AutoModelForImageTextToText if "vision_config" in config else transformers.AutoModelForCausalLM
    with torch.device(device):
        return kind.from_config(package_config, dtype=torch.bfloat16)


def is_kept_in_fp32(model, name):
    return any(f".{part}." in f".{name}." or part in name for part in model._keep_in_fp32_modules_strict or ())


def held(model):
    """{name: "type [shape]"} of the parameters and of those buffers that a checkpoint has; a tied one once."""
    tied = ties(model)
    found = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name not in tied:
            kept = is_kept_in_fp32(model, name)
            found[name] = described(torch.empty_like(tensor, dtype=torch.float32, device="meta") if kept else tensor)
    return found


def ties(model):
    """{name of a tied parameter: whose storage it is}."""
    return dict(model.all_tied_weights_keys)


def files_on_meta(model):
    """What a checkpoint of the model has, without weights."""
    tied = ties(model)
    state = {name: tensor.float() if is_kept_in_fp32(model, name) else tensor
             for name, tensor in model.state_dict().items() if name not in tied}
    return {name: described(tensor) for name, tensor in revert_weight_conversion(model, state).items()}


def header(path):
    """Names, types and shapes in a safetensors file."""
    with open(path, "rb") as file:
        entries = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {name: f"{entry['dtype']} {entry['shape']}" for name, entry in entries.items() if name != "__metadata__"}


def saved(model):
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return header(pathlib.Path(folder) / "model.safetensors")


def loaded(model):
    """The model as it is after it was written and read."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return type(model).from_pretrained(folder, dtype=torch.bfloat16)


def numbers_of(files):
    """(elements, bytes) of all."""
    elements, size_bytes = 0, 0
    for text in files.values():
        kind, _, shape = text.partition(" ")
        count = math.prod(json.loads(shape))
        elements, size_bytes = elements + count, size_bytes + count * BYTES[kind]
    return elements, size_bytes


def record_of_remote_code(config):
    files = remote_code.files(config)
    elements, size_bytes = numbers_of(files)
    return {"config": config, "class": remote_code.class_of(config["model_type"]), "num_elements": elements,
            "num_bytes": size_bytes, "files": names.compress(files), "memory": {}, "tied": {}}


def record_of(variant, config):
    if config["model_type"] in remote_code.FAMILIES:
        return record_of_remote_code(config)
    is_published = (zoo.PUBLISHED / f"{variant}.json").exists()
    model = new_model(config, "meta")
    files, memory = files_on_meta(model), held(model)
    if not is_published:
        live = loaded(new_model(config, "cpu"))
        by_file = saved(live)
        assert files == by_file, {name: (files.get(name), by_file.get(name)) for name in files.keys() | by_file.keys()
                                  if files.get(name) != by_file.get(name)}
        assert memory == held(live)
    if variant == "mtp":
        files = {**files, **mtp.files(config, files)}
    elements, size_bytes = numbers_of(files)
    return {"config": f"perf/models/{variant}.json" if is_published else config, "class": type(model).__name__,
            "num_elements": elements, "num_bytes": size_bytes, "files": names.compress(files),
            "memory": names.compress({name: text for name, text in memory.items() if files.get(name) != text}),
            "tied": ties(model), **({"text": f"checkpoint:mtp={mtp.num_layers(config)}"} if variant == "mtp" else {})}


def record(family):
    models = {variant: record_of(variant, config) for variant, config in zoo.models(family).items()}
    package = "by hand" if family in remote_code.FAMILIES else f"transformers {transformers.__version__}"
    return {"family": family, "package": package, "models": models}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("families", nargs="*")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    failed = []
    for family in arguments.families or zoo.ZOO:
        path = arguments.folder / f"{family}.json"
        found = record(family)
        if not arguments.check:
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            print(f"{family}: {', '.join(found['models'])}")
            continue
        kept = json.loads(path.read_text(encoding="utf-8"))
        for variant in found["models"].keys() | kept["models"].keys():
            if found["models"].get(variant) != kept["models"].get(variant):
                failed.append(f"{family} {variant}")
    if arguments.check:
        print("\n".join(f"{line}: the record is not what {found['package']} gives" for line in failed))
        print(f"{len(arguments.families or zoo.ZOO)} families, {len(failed)} models differ")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
