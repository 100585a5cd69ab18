# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Tensors of layers for multi-token prediction, which published files have and models of transformers drop.

By hand: names and shapes as the files of DeepSeek-V3, GLM-4.5, Qwen3-Next and Qwen3.5 have them. What such a layer shares with a
decoder layer is taken from the last one of these with full attention.
"""
import json
import re


def like_layer(files, layer, prefix):
    """What a layer of the decoder has, under another prefix."""
    own = f"model.layers.{layer}."
    return {prefix + name.removeprefix(own): text for name, text in files.items() if name.startswith(own)}


def num_layers(config):
    return config.get("num_nextn_predict_layers", 0) or config.get("mtp_num_hidden_layers", 0)


def files(config, decoder):
    """{name: "type [shape]"} of the layers of a config, whose decoder has these files."""
    hidden = config["hidden_size"]
    norm, projection = f"BF16 [{hidden}]", f"BF16 {json.dumps([hidden, 2 * hidden])}"
    vocabulary = f"BF16 {json.dumps([config['vocab_size'], hidden])}"
    last = config["num_hidden_layers"] - 1
    if config["model_type"].startswith("qwen3"):
        assert num_layers(config) == 1
        full = max(int(re.match(r"model\.layers\.(\d+)\.self_attn", name).group(1))
                   for name in decoder if ".self_attn." in name)
        return {"mtp.pre_fc_norm_embedding.weight": norm, "mtp.pre_fc_norm_hidden.weight": norm,
                "mtp.fc.weight": projection, "mtp.norm.weight": norm, **like_layer(decoder, full, "mtp.layers.0.")}
    found = {}
    for number in range(last + 1, last + 1 + num_layers(config)):
        prefix = f"model.layers.{number}."
        found.update(like_layer(decoder, last, prefix))
        beside = {"enorm": norm, "hnorm": norm, "eh_proj": projection, "shared_head.norm": norm,
                  "embed_tokens": vocabulary, "shared_head.head": vocabulary}
        found.update({f"{prefix}{module}.weight": text for module, text in beside.items()})
    return found
