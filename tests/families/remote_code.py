# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Families that the package transformers does not have: what their published files hold, written down by hand.

Their models are Python files beside the weights (internlm-7b: modeling_internlm.py, internlm2-7b: modeling_internlm2.py,
AquilaChat-7B and Aquila2-34B: modeling_aquila.py), from whose modules the names, shapes and biases here are read off.
"""
from transformers import AutoConfig, LlamaConfig


def sizes(config):
    heads = config["num_attention_heads"]
    head_dim = config["hidden_size"] // heads
    kv_heads = config.get("num_key_value_heads", heads)
    return config["hidden_size"], config["intermediate_size"], heads * head_dim, kv_heads * head_dim


def llama_like(config, has_bias):
    hidden, width, q, kv = sizes(config)
    layer = {"input_layernorm.weight": [hidden], "post_attention_layernorm.weight": [hidden]}
    for name, rows, columns in (("q", q, hidden), ("k", kv, hidden), ("v", kv, hidden), ("o", hidden, q)):
        layer[f"self_attn.{name}_proj.weight"] = [rows, columns]
        if has_bias:
            layer[f"self_attn.{name}_proj.bias"] = [rows]
    layer.update({"mlp.gate_proj.weight": [width, hidden], "mlp.up_proj.weight": [width, hidden],
                  "mlp.down_proj.weight": [hidden, width]})
    return layer, "model.embed_tokens.weight", "lm_head.weight"


def internlm2(config):
    hidden, width, q, kv = sizes(config)
    assert not config["bias"], "published ones have none"
    layer = {"attention_norm.weight": [hidden], "ffn_norm.weight": [hidden],
             "attention.wqkv.weight": [q + 2 * kv, hidden], "attention.wo.weight": [hidden, q],
             "feed_forward.w1.weight": [width, hidden], "feed_forward.w3.weight": [width, hidden],
             "feed_forward.w2.weight": [hidden, width]}
    return layer, "model.tok_embeddings.weight", "output.weight"


# Family -> what a layer has and the names of embedding and output layer; class of vLLM that reads it (of the first two
# it has no name any more since 0.24, but their class); whether that needs the model_type of the class.
FAMILIES = {
    "internlm": (lambda config: llama_like(config, config["bias"]), "LlamaForCausalLM", "llama"),
    "aquila": (lambda config: llama_like(config, False), "LlamaForCausalLM", "llama"),
    "internlm2": (internlm2, "InternLM2ForCausalLM", "internlm2"),
}


def files(config):
    """{name: "type [shape]"} of a checkpoint."""
    layer, embedding, output = FAMILIES[config["model_type"]][0](config)
    shapes = {embedding: [config["vocab_size"], config["hidden_size"]]}
    for number in range(config["num_hidden_layers"]):
        shapes.update({f"model.layers.{number}.{name}": shape for name, shape in layer.items()})
    shapes.update({"model.norm.weight": [config["hidden_size"]], output: shapes[embedding]})
    return {name: f"BF16 {shape}" for name, shape in shapes.items()}


def class_of(family):
    return FAMILIES[family][1]


def server_config(config):
    """The config as vLLM's class takes it."""
    return {**config, "model_type": FAMILIES.get(config["model_type"], (0, 0, config["model_type"]))[2]}


class InternLM2Config(LlamaConfig):
    """For its defaults, which vLLM asks for."""
    model_type = "internlm2"


def register():
    AutoConfig.register("internlm2", InternLM2Config)
