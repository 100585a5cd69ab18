# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Which engines of vLLM are recorded: layout texts as the library has them, and what they say."""

DENSE = ["vllm:tp=1", "vllm:tp=2", "vllm:tp=4", "vllm:tp=2,pp=2"]
MORE_RANKS_THAN_KV_HEADS = ["vllm:tp=12"]
EXPERTS = ["vllm:tp=2,dp=2", "vllm:tp=2,dp=2,ep=4", "vllm:tp=4,ep=4", "vllm:tp=1,ep=4,redundant=2",
           "vllm:tp=2,ep=2,pp=2"]
GROUPS = ["vllm:tp=4,ep=4,placement=round_robin"]  # which vLLM obeys for a router with several groups of experts only
FAMILIES = ["llama", "qwen3", "qwen3_moe", "mixtral", "deepseek_v3", "kimi_k2"]


def parse(text):
    setting = {"tp": 1, "pp": 1, "dp": 1, "ep": 0, "placement": "linear", "redundant": 0}
    for item in text.partition(":")[2].split(","):
        key, _, value = item.partition("=")
        setting[key] = int(value) if value.isdigit() else value
    if setting["ep"]:
        setting["dp"] = setting["ep"] // setting["tp"]
    return setting


def num_ranks(setting):
    return setting["tp"] * setting["pp"] * setting["dp"]


def has_experts(config):
    return any("experts" in key for key in config)


def texts(config, variant):
    """All of them for a family's small model; for a variant one of each kind."""
    if variant != "small":
        return ["vllm:tp=2", "vllm:tp=2,dp=2,ep=4"] if has_experts(config) else ["vllm:tp=2,pp=2"]
    found = list(DENSE)
    if config.get("num_key_value_heads", 12) == 4 and not has_experts(config):
        found += MORE_RANKS_THAN_KV_HEADS
    if has_experts(config):
        found += EXPERTS + (GROUPS if config.get("n_group", 1) > 1 else [])
    return found
