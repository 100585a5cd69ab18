# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""A small config.json of every family, with its variants: what the frameworks' packages are asked about.

Heads, k and v heads, layers, dense first layers and experts stand in ratios that are odd, so that a formula that holds
for the published models alone shows it; widths are what four and twelve ranks can cut, the vocabulary what nothing
divides. Keys are those that published configs have: what they leave out is left out here, too, and so tests what its
absence means.
"""
import json
import pathlib

PUBLISHED = pathlib.Path(__file__).resolve().parents[2] / "perf/models"


def without(config, key):
    return {name: value for name, value in config.items() if name != key}


ATTENTION = dict(num_attention_heads=12, num_key_value_heads=4)  # 3 q heads for each k head
ATTENTION_OF_12 = dict(num_attention_heads=12, num_key_value_heads=12)
SIZES = dict(hidden_size=60, intermediate_size=72, num_hidden_layers=3, vocab_size=131, max_position_embeddings=64)
DENSE = {**SIZES, **ATTENTION, "head_dim": 8}
# Families without the key head_dim: as wide as their heads are together.
DENSE_OF_HEADS = {**SIZES, **ATTENTION, "hidden_size": 96}
EXPERTS = dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24)
LOCAL_EXPERTS = dict(num_local_experts=6, num_experts_per_tok=2)
ONE_SHARED = dict(shared_expert_intermediate_size=36)
SOME_DENSE = dict(num_hidden_layers=5, decoder_sparse_step=2, mlp_only_layers=[3])
LATENT = dict(q_lora_rank=20, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=12)
DEEPSEEK = {**SIZES, **LATENT, **ATTENTION_OF_12, "num_hidden_layers": 5, "n_routed_experts": 6, "n_shared_experts": 2,
            "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1, "moe_intermediate_size": 24,
            "first_k_dense_replace": 2}
KIMI = {**DEEPSEEK, "n_group": 1, "num_hidden_layers": 3, "first_k_dense_replace": 1}
ONE_MTP = {"num_nextn_predict_layers": 1}  # a layer for multi-token prediction, whose tensors are not transformers'
GLM_MOE = {**DENSE, "num_hidden_layers": 5, "n_routed_experts": 6, "num_experts_per_tok": 2,
           "moe_intermediate_size": 24, "first_k_dense_replace": 2}
ERNIE_MOE = {**DENSE_OF_HEADS, "num_hidden_layers": 5, "moe_num_experts": 6, "moe_k": 2, "moe_intermediate_size": 24,
             "moe_num_shared_experts": 2, "moe_layer_start_index": 2}
# Linear attention in three layers of four: 3 value heads for each key head, and of another size.
LINEAR = {**DENSE, "num_hidden_layers": 4, "linear_num_key_heads": 4, "linear_num_value_heads": 12,
          "linear_key_head_dim": 8, "linear_value_head_dim": 4, "linear_conv_kernel_dim": 3,
          "layer_types": ["linear_attention", "linear_attention", "full_attention", "linear_attention"]}
GPT2 = dict(n_embd=48, n_head=4, n_layer=3, n_positions=36, vocab_size=131)
THREE_ROPES = {"rope_scaling": {"rope_type": "default", "mrope_section": [2, 1, 1]}}
VISION_2_5 = dict(depth=3, hidden_size=48, intermediate_size=56, num_heads=12, out_hidden_size=96, patch_size=2,
                  spatial_merge_size=2, temporal_patch_size=2, window_size=8, fullatt_block_indexes=[1], in_chans=3)
VISION_3 = dict(depth=3, hidden_size=48, intermediate_size=56, num_heads=12, out_hidden_size=60, patch_size=2,
                spatial_merge_size=2, temporal_patch_size=2, num_position_embeddings=9, in_channels=3,
                deepstack_visual_indexes=[0, 2])
VISION_3_5 = without(VISION_3, "deepstack_visual_indexes")
SMALL_TIED = {"tie_word_embeddings": True}

# model_type, which is also the name of the record -> variant -> config.
ZOO = {
    "llama": {"small": DENSE_OF_HEADS, "tied": {**DENSE, **SMALL_TIED},
              "biases": {**DENSE, "attention_bias": True, "mlp_bias": True},
              "few_kv_heads": {**DENSE_OF_HEADS, "num_key_value_heads": 2},
              "without_kv_heads": without(DENSE_OF_HEADS, "num_key_value_heads")},
    "mistral": {"small": DENSE},
    "qwen2": {"small": DENSE_OF_HEADS, "tied": {**DENSE_OF_HEADS, **SMALL_TIED}},
    "qwen3": {"small": {**DENSE, "tie_word_embeddings": False}, "tied": {**DENSE, **SMALL_TIED},
              "biases": {**DENSE, "attention_bias": True}},
    "qwen2_moe": {"small": {**DENSE_OF_HEADS, **EXPERTS, **ONE_SHARED},
                  "some_dense": {**DENSE_OF_HEADS, **EXPERTS, **ONE_SHARED, **SOME_DENSE}},
    "qwen3_moe": {"small": {**DENSE, **EXPERTS}, "some_dense": {**DENSE, **EXPERTS, **SOME_DENSE},
                  "newer_key": {**DENSE, **LOCAL_EXPERTS, "moe_intermediate_size": 24}},
    "mixtral": {"small": {**DENSE_OF_HEADS, **LOCAL_EXPERTS}},
    "deepseek_v2": {"small": {**DEEPSEEK, "topk_method": "group_limited_greedy"},
                    "without_q_lora": {**DEEPSEEK, "q_lora_rank": None, "topk_method": "greedy"}},
    "deepseek_v3": {"small": {**DEEPSEEK, "topk_method": "noaux_tc"},
                    "moonlight": {**KIMI, "q_lora_rank": None, "topk_method": "noaux_tc"},
                    "biases": {**DEEPSEEK, "attention_bias": True, "topk_method": "noaux_tc"},
                    "mtp": {**KIMI, **ONE_MTP, "topk_method": "noaux_tc"}},
    "kimi_k2": {"small": {**KIMI, "topk_method": "noaux_tc"}},
    "deepseek_v32": {"small": {**DEEPSEEK, "topk_method": "noaux_tc", "index_n_heads": 6, "index_head_dim": 20,
                               "index_topk": 8},
                     "mtp": {**KIMI, **ONE_MTP, "topk_method": "noaux_tc", "index_n_heads": 6, "index_head_dim": 20,
                             "index_topk": 8}},
    "kimi_linear": {"small": {**SIZES, **LATENT, **ATTENTION_OF_12, "q_lora_rank": None, "num_hidden_layers": 4,
                              "num_experts": 6, "num_shared_experts": 2, "num_experts_per_token": 2,
                              "num_expert_group": 1, "topk_group": 1, "moe_intermediate_size": 24,
                              "first_k_dense_replace": 1, "pad_token_id": 0, "head_dim": 8, "mla_use_nope": True,
                              "min_moe_intermediate_per_partition": 6,  # of vLLM, which pads to 256 otherwise
                              "linear_attn_config": {"full_attn_layers": [3], "kda_layers": [1, 2, 4], "head_dim": 8,
                                                     "num_heads": 12, "short_conv_kernel_size": 3}}},
    "qwen3_next": {"small": {**LINEAR, **EXPERTS, **ONE_SHARED},
                   "biases": {**LINEAR, **EXPERTS, **ONE_SHARED, "attention_bias": True},
                   "mtp": {**LINEAR, **EXPERTS, **ONE_SHARED, **ONE_MTP}},
    "qwen3_5_text": {"small": LINEAR, "biases": {**LINEAR, "attention_bias": True},
                     "mtp": {**LINEAR, "mtp_num_hidden_layers": 1}},
    "qwen3_5_moe_text": {"small": {**LINEAR, **EXPERTS, **ONE_SHARED},
                         "mtp": {**LINEAR, **EXPERTS, **ONE_SHARED, "mtp_num_hidden_layers": 1}},
    "qwen3_5": {"small": {"text_config": {**LINEAR, "model_type": "qwen3_5_text"}, "vision_config": VISION_3_5}},
    "qwen3_5_moe": {"small": {"text_config": {**LINEAR, **EXPERTS, **ONE_SHARED, "model_type": "qwen3_5_moe_text"},
                              "vision_config": VISION_3_5}},
    "gpt2": {"small": GPT2, "untied": {**GPT2, "tie_word_embeddings": False}},
    "gpt_bigcode": {"small": {**GPT2, "multi_query": True}, "multi_head": {**GPT2, "multi_query": False}},
    "internlm": {"small": {**without(DENSE_OF_HEADS, "num_key_value_heads"), "bias": True}},
    "internlm2": {"small": {**DENSE_OF_HEADS, "bias": False}},
    "aquila": {"small": DENSE_OF_HEADS},
    "starcoder2": {"small": DENSE_OF_HEADS,
                   "untied": {**DENSE_OF_HEADS, "tie_word_embeddings": False, "use_bias": False}},
    "phi3": {"small": {**DENSE_OF_HEADS, "pad_token_id": 0}},
    "gemma": {"small": DENSE},
    "gemma2": {"small": DENSE},
    "gemma3_text": {"small": DENSE},
    "glm": {"small": {**DENSE, "pad_token_id": 0},
            "tied": {**DENSE, **SMALL_TIED, "attention_bias": False, "pad_token_id": 0}},
    "glm4": {"small": {**DENSE, "pad_token_id": 0},
             "without_biases": {**DENSE, "attention_bias": False, "pad_token_id": 0}},
    "glm4_moe": {"small": {**GLM_MOE, "n_shared_experts": 2, "attention_bias": True, "use_qk_norm": True},
                 "plain": {**GLM_MOE, "n_shared_experts": 1},
                 "mtp": {**GLM_MOE, **ONE_MTP, "n_shared_experts": 1, "num_hidden_layers": 3,
                         "first_k_dense_replace": 1}},
    "gpt_oss": {"small": {**DENSE, **LOCAL_EXPERTS, "sliding_window": 16}},
    "llama4_text": {"small": {**DENSE, **LOCAL_EXPERTS, "intermediate_size_mlp": 84, "interleave_moe_layer_step": 2,
                              "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}},
    "minimax_m2": {"small": {**DENSE, **LOCAL_EXPERTS, "rotary_dim": 4, "use_qk_norm": True, "scoring_func": "sigmoid",
                             "use_routing_bias": True, "bos_token_id": 1, "eos_token_id": 2}},
    "hunyuan_v1_dense": {"small": DENSE, "tied": {**DENSE, **SMALL_TIED, "attention_bias": True}},
    "hunyuan_v1_moe": {"small": {**DENSE, "num_experts": 6, "moe_topk": [2, 2, 2], "num_shared_expert": [1, 1, 1],
                                 "use_mixed_mlp_moe": True}},
    "olmo2": {"small": DENSE_OF_HEADS, "tied": {**DENSE_OF_HEADS, **SMALL_TIED, "attention_bias": True}},
    "ernie4_5": {"small": DENSE, "untied": {**DENSE, "tie_word_embeddings": False, "use_bias": True}},
    "ernie4_5_moe": {"small": ERNIE_MOE, "biases": {**ERNIE_MOE, "use_bias": True}},
    "seed_oss": {"small": {**DENSE, "attention_out_bias": False, "pad_token_id": 1},
                 "tied": {**DENSE, **SMALL_TIED, "attention_out_bias": True, "mlp_bias": True, "pad_token_id": 1}},
    "qwen2_5_vl": {"small": {"text_config": {**DENSE_OF_HEADS, **THREE_ROPES, "model_type": "qwen2_5_vl_text"},
                             "vision_config": VISION_2_5},
                   # As published: what text_config has stands at the top.
                   "tied": {**DENSE_OF_HEADS, **THREE_ROPES, **SMALL_TIED, "vision_config": VISION_2_5}},
    "qwen3_vl": {"small": {"text_config": {**DENSE, **THREE_ROPES, "model_type": "qwen3_vl_text"},
                           "vision_config": VISION_3},
                 "tied": {"text_config": {**DENSE, **THREE_ROPES, "model_type": "qwen3_vl_text"},
                          "vision_config": VISION_3, **SMALL_TIED}},
    "qwen3_vl_moe": {"small": {"text_config": {**DENSE, **EXPERTS, **THREE_ROPES, "norm_topk_prob": True,
                                               "model_type": "qwen3_vl_moe_text"},
                               "vision_config": VISION_3}},
}


def models(family):
    """name -> config.json of the family's small models and of those in perf/models."""
    found = {}
    for variant, config in ZOO[family].items():
        found[variant] = {"model_type": family, "dtype": "bfloat16", **config}
    for path in sorted(PUBLISHED.glob("*.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config["model_type"] == family:
            found[path.stem] = config
    return found
