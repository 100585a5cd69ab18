# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Which engines of vLLM and jobs of Megatron are recorded: layout texts as the library has them, and what they say."""

import re

FSDP = ["fsdp:shard=5"]  # which leaves some ranks without experts, and cuts nothing evenly
FSDP1 = ["fsdp:shard=5,units=flat", "fsdp:shard=3,units=aligned,dtype=f32"]
# Recorded as FSDP1 holds them: one of each order in which modules register their parameters.
IN_FSDP1 = {"llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "glm4", "olmo2", "gpt2", "starcoder2", "qwen2_moe",
            "qwen3_moe", "mixtral", "deepseek_v3", "glm4_moe"}
DENSE = ["vllm:tp=1", "vllm:tp=2", "vllm:tp=4", "vllm:tp=2,pp=2"]
MORE_RANKS_THAN_KV_HEADS = ["vllm:tp=12"]
EXPERTS = ["vllm:tp=2,dp=2", "vllm:tp=2,dp=2,ep=4", "vllm:tp=4,ep=4", "vllm:tp=1,ep=4,redundant=2",
           "vllm:tp=2,ep=2,pp=2"]
GROUPS = ["vllm:tp=4,ep=4,placement=round_robin"]  # which vLLM obeys for a router with several groups of experts only
# With the draft model that predicts several tokens, which is on the last stage.
MTP = ["vllm:tp=2,mtp=1", "vllm:tp=2,dp=2,ep=4,mtp=1", "vllm:tp=1,ep=4,redundant=2,mtp=1", "vllm:tp=2,pp=2,mtp=1"]
DENSE_MTP = ["vllm:tp=2,mtp=1", "vllm:tp=2,pp=2,mtp=1"]
MEGATRON_MTP = [text + ",experts=local,mtp=1" for text in (
    "megatron:tp=2", "megatron:tp=2,pp=3", "megatron:tp=2,pp=3,layers=1-2-0,mtp_layers=0-0-1",
    "megatron:tp=1,pp=3,layers=1-2-0,mtp_layers=0-1-0", "megatron:tp=1,pp=4,layers=1-2-0-0,mtp_layers=0-0-1-0",
    "megatron:tp=2,dp=3,ep=3")]
WHOLE_TOWER = ["vllm:tp=2,mm_encoder_tp_mode=data"]
# What vLLM 0.32 itself cannot build or load.
IMPOSSIBLE = {
    ("ernie4_5_moe", "vllm:tp=2,pp=2"): "a tied embedding that is not on the last stage",
    ("ernie4_5_moe", "vllm:tp=2,ep=2,pp=2"): "a tied embedding that is not on the last stage",
    **{(family, "vllm:tp=1,ep=4,redundant=2"): "it has no redundant experts"
       for family in ("gpt_oss", "kimi_linear", "llama4_text", "minimax_m2", "qwen2_moe")},
    **{(family, "vllm:tp=1,ep=4,redundant=2"): "it asks again, for the decoder alone, whether there is a GPU"
       for family in ("qwen3_vl_moe", "qwen3_5_moe")},
    **{(family, "vllm:tp=1,ep=4,redundant=2,mtp=1"): "its draft's loader leaves the redundant experts without values"
       for family in ("deepseek_v3", "deepseek_v32", "glm4_moe")},
    ("qwen3_5_text", "vllm:tp=12"): "more ranks than heads of linear attention",
}


def parse(text):
    setting = {"tp": 1, "pp": 1, "dp": 1, "ep": 0, "etp": 1, "placement": "linear", "redundant": 0,
               "mm_encoder_tp_mode": "weights", "shard": 1, "mtp": 0}
    for item in text.partition(":")[2].split(","):
        key, _, value = item.partition("=")
        setting[key] = int(value) if value.isdigit() else value
    if setting["ep"] and text.startswith("vllm:"):
        setting["dp"] = setting["ep"] // setting["tp"]
    return setting


def published_name(name):
    """transformers 5.19 writes the dense layers of Kimi-Linear under the name that published files have for the others."""
    return re.sub(r"\.block_sparse_moe\.(gate|up|down)_proj\.", r".mlp.\1_proj.", name)


def num_ranks(setting):
    return setting["tp"] * setting["pp"] * setting["dp"] * setting["shard"]


def has_experts(config):
    return any("experts" in key for key in config)


def texts(config, variant):
    """All of them for a family's small model; for a variant one of each kind."""
    if variant == "few_kv_heads":
        return ["vllm:tp=4"]
    if variant == "mtp":
        found = MTP if has_experts(config) else DENSE_MTP
        return [text for text in found if (config["model_type"], text) not in IMPOSSIBLE]
    if variant != "small":
        return ["vllm:tp=2", "vllm:tp=2,dp=2,ep=4"] if has_experts(config) else ["vllm:tp=2,pp=2"]
    family, text_config, found = config["model_type"], config.get("text_config", config), list(DENSE)
    if config.get("num_key_value_heads") == 4 and not has_experts(config):
        found += MORE_RANKS_THAN_KV_HEADS
    if has_experts(text_config):
        found += EXPERTS + (GROUPS if config.get("n_group", 1) > 1 else [])
    if "vision_config" in config:
        found += WHOLE_TOWER
    return [text for text in found if (family, text) not in IMPOSSIBLE]


def megatron_texts(config, variant, num_experts):
    if variant == "few_kv_heads":
        return ["megatron:tp=4"]  # more ranks than query groups
    if variant == "mtp":
        return MEGATRON_MTP
    found = ["megatron:tp=1", "megatron:tp=2", "megatron:tp=4"]
    if config["num_hidden_layers"] % 3 == 0:
        found += ["megatron:tp=2,pp=3"]
    if num_experts:  # without TransformerEngine each expert is a module, or all are in the older grouped one
        found = [text + ",experts=local" for text in found + ["megatron:tp=2,dp=3,ep=3", "megatron:tp=2,dp=2,ep=2,etp=2",
                                                              "megatron:tp=2,dp=3,ep=6"]]
        return found + ["megatron:tp=2,dp=2,ep=2,etp=2,experts=gmm"]
    return found
