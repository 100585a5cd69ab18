# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Small models of every family: their config.json, and the checkpoint's tensors with a value of its own in each element.

Sizes divide as little as the frameworks allow, so that a formula that is right only for even cuts shows it.
"""
import numpy as np

LLAMA = dict(model_type="llama", hidden_size=24, num_attention_heads=8, num_key_value_heads=4, head_dim=6,
             intermediate_size=40, num_hidden_layers=5, vocab_size=200, tie_word_embeddings=False)
QWEN3_TIED = dict(model_type="qwen3", hidden_size=20, num_attention_heads=8, num_key_value_heads=2, head_dim=4,
                  intermediate_size=48, num_hidden_layers=3, vocab_size=300, tie_word_embeddings=True)
QWEN3_MOE = dict(model_type="qwen3_moe", hidden_size=16, num_attention_heads=4, num_key_value_heads=4, head_dim=8,
                 intermediate_size=32, moe_intermediate_size=24, num_hidden_layers=4, vocab_size=130, num_experts=8,
                 decoder_sparse_step=1, mlp_only_layers=[], num_experts_per_tok=2, tie_word_embeddings=False)
MIXTRAL = dict(model_type="mixtral", hidden_size=16, num_attention_heads=4, num_key_value_heads=2, intermediate_size=16,
               num_hidden_layers=3, vocab_size=100, num_local_experts=8, num_experts_per_tok=2,
               tie_word_embeddings=False)
DEEPSEEK = dict(model_type="deepseek_v3", hidden_size=32, num_attention_heads=4, num_key_value_heads=4,
                intermediate_size=64, moe_intermediate_size=16, num_hidden_layers=4, vocab_size=129, n_routed_experts=8,
                n_shared_experts=2, num_experts_per_tok=2, n_group=2, topk_group=1, first_k_dense_replace=1,
                moe_layer_freq=1, q_lora_rank=12, kv_lora_rank=10, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=8,
                topk_method="noaux_tc", tie_word_embeddings=False)
KIMI = {**DEEPSEEK, "model_type": "kimi_k2", "n_group": 1, "num_hidden_layers": 3, "first_k_dense_replace": 2}
MODELS = {"llama": LLAMA, "qwen3_tied": QWEN3_TIED, "qwen3_moe": QWEN3_MOE, "mixtral": MIXTRAL, "deepseek": DEEPSEEK,
          "kimi": KIMI}


def config_json(name):
    """All in 32 bits, which hold a value of its own for each element of the model."""
    return {"torch_dtype": "float32", "hidden_act": "silu", "rms_norm_eps": 1e-6, "max_position_embeddings": 64,
            **MODELS[name]}


def is_moe(config):
    return any(key in config for key in ("num_experts", "num_local_experts", "n_routed_experts"))


def num_experts(config):
    return config.get("num_experts") or config.get("num_local_experts") or config["n_routed_experts"]


def is_latent(config):
    return "kv_lora_rank" in config


def layer_has_experts(config, layer):
    return is_moe(config) and layer >= config.get("first_k_dense_replace", 0)


def head_dim(config):
    return config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])


def attention_shapes(config):
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    if is_latent(config):
        nope, rope, value = config["qk_nope_head_dim"], config["qk_rope_head_dim"], config["v_head_dim"]
        q_rank, kv_rank = config["q_lora_rank"], config["kv_lora_rank"]
        return {"q_a_proj": (q_rank, hidden), "q_a_layernorm": (q_rank,), "q_b_proj": (heads * (nope + rope), q_rank),
                "kv_a_proj_with_mqa": (kv_rank + rope, hidden), "kv_a_layernorm": (kv_rank,),
                "kv_b_proj": (heads * (nope + value), kv_rank), "o_proj": (hidden, heads * value)}
    each, kv_heads = head_dim(config), config["num_key_value_heads"]
    shapes = {"q_proj": (heads * each, hidden), "k_proj": (kv_heads * each, hidden),
              "v_proj": (kv_heads * each, hidden), "o_proj": (hidden, heads * each)}
    if config["model_type"].startswith("qwen3"):
        shapes.update(q_norm=(each,), k_norm=(each,))
    return shapes


def mlp_shapes(prefix, width, hidden):
    return {f"{prefix}gate_proj.weight": (width, hidden), f"{prefix}up_proj.weight": (width, hidden),
            f"{prefix}down_proj.weight": (hidden, width)}


def expert_shapes(config):
    """Tensors of a layer with experts; those of routed experts are stacked, the expert first."""
    hidden, experts = config["hidden_size"], num_experts(config)
    if config["model_type"] == "mixtral":
        width, root = config["intermediate_size"], "block_sparse_moe."
        return {root + "gate.weight": (experts, hidden), root + "experts.w1.weight": (experts, width, hidden),
                root + "experts.w3.weight": (experts, width, hidden), root + "experts.w2.weight": (experts, hidden, width)}
    width = config["moe_intermediate_size"]
    shapes = {"mlp.gate.weight": (experts, hidden)}
    for name, shape in mlp_shapes("mlp.experts.", width, hidden).items():
        shapes[name] = (experts, *shape)
    if "n_shared_experts" in config:
        shapes["mlp.gate.e_score_correction_bias"] = (experts,)
        shapes.update(mlp_shapes("mlp.shared_experts.", width * config["n_shared_experts"], hidden))
    return shapes


def tensor_shapes(config):
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    shapes = {"model.embed_tokens.weight": (vocab, hidden)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        shapes[prefix + "input_layernorm.weight"] = shapes[prefix + "post_attention_layernorm.weight"] = (hidden,)
        for name, shape in attention_shapes(config).items():
            shapes[f"{prefix}self_attn.{name}.weight"] = shape
        ffn = (expert_shapes(config) if layer_has_experts(config, layer)
               else mlp_shapes("mlp.", config["intermediate_size"], hidden))
        shapes.update({prefix + name: shape for name, shape in ffn.items()})
    shapes["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocab, hidden)
    return shapes


def tensors(config):
    """Every tensor of the checkpoint; no two elements of the model are equal."""
    out, first = {}, 1
    for name, shape in tensor_shapes(config).items():
        count = int(np.prod(shape))
        out[name] = np.arange(first, first + count, dtype=np.uint32).reshape(shape)
        first += count
    return out
