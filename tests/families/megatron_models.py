# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Megatron-Core's GPT models on a CPU, from a config.json: what must be told to it where there is no GPU.

Modules of plain torch (the "local" spec), in groups of processes that the caller has made; nothing here runs a model.
"""
import warnings

import torch

# Megatron asks for streams and the current device when it builds, and uses neither before it runs.
torch.cuda.current_device = lambda: torch.device("cpu")
torch.cuda.Stream = lambda *_, **__: None
torch.Tensor.cuda = lambda tensor, *_, **__: tensor
warnings.simplefilter("ignore")
from megatron.core import parallel_state  # noqa: E402
from megatron.core.models.gpt.gpt_layer_specs import (  # noqa: E402
    get_gpt_decoder_block_spec, get_gpt_decoder_layer_specs, get_gpt_mtp_block_spec)
from megatron.core.models.gpt.gpt_model import GPTModel  # noqa: E402
from megatron.core.transformer import multi_latent_attention  # noqa: E402
from megatron.core.transformer.dot_product_attention import DotProductAttention  # noqa: E402
from megatron.core.transformer.moe import grouped_gemm_util  # noqa: E402
from megatron.core.transformer.transformer_config import MLATransformerConfig, TransformerConfig  # noqa: E402


def init_attention(attention, *arguments, k_channels=None, v_channels=None, **keys):
    """That of plain torch, which has no parameters, knows no latent attention, but it does not run here."""
    make_attention(attention, *arguments, **keys)


make_attention, DotProductAttention.__init__ = DotProductAttention.__init__, init_attention
grouped_gemm_util.assert_grouped_gemm_is_available = lambda: None  # what the grouped experts run with
# Asked whether a projection is one, without TransformerEngine, too.
multi_latent_attention.TELinear = type("TELinear", (), {})


def moe_layers(config):
    """1 for each layer with experts, 0 for the others."""
    layers, dense = range(config["num_hidden_layers"]), config.get("mlp_only_layers", [])
    if "first_k_dense_replace" in config:
        return [int(layer >= config["first_k_dense_replace"]) for layer in layers]
    return [int((layer + 1) % config.get("decoder_sparse_step", 1) == 0 and layer not in dense) for layer in layers]


def num_experts(config):
    return config.get("n_routed_experts") or config.get("num_local_experts") or config.get("num_experts")


def transformer_config(config, setting):
    """Megatron's own settings for a config.json."""
    keys = dict(
        num_layers=config["num_hidden_layers"], hidden_size=config["hidden_size"],
        ffn_hidden_size=config["intermediate_size"], num_attention_heads=config["num_attention_heads"],
        gated_linear_unit=True, activation_func=torch.nn.functional.silu, add_bias_linear=False,
        normalization="RMSNorm", use_cpu_initialization=True, pipeline_dtype=torch.float32,
        tensor_model_parallel_size=setting["tp"], pipeline_model_parallel_size=setting["pp"])
    if setting.get("vpp", 1) > 1:
        keys["virtual_pipeline_model_parallel_size"] = setting["vpp"]
    if setting.get("mtp"):
        keys["mtp_num_layers"] = setting["mtp"]
    if "mtp_layers" in setting:
        keys["pipeline_model_parallel_layout"] = pipeline_layout(setting)
    if num_experts(config):
        keys.update(
            num_moe_experts=num_experts(config), moe_layer_freq=moe_layers(config),
            moe_ffn_hidden_size=config.get("moe_intermediate_size", config["intermediate_size"]),
            expert_model_parallel_size=setting["ep"] or 1, expert_tensor_parallel_size=setting["etp"],
            moe_token_dispatcher_type="alltoall", moe_router_load_balancing_type="none",
            moe_grouped_gemm=setting.get("experts") == "gmm",
            moe_use_legacy_grouped_gemm=setting.get("experts") == "gmm")
    if "n_shared_experts" in config:
        keys.update(
            moe_shared_expert_intermediate_size=config["n_shared_experts"] * config["moe_intermediate_size"],
            moe_router_enable_expert_bias=True, moe_router_score_function="sigmoid")
    if "kv_lora_rank" not in config:
        head = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
        return TransformerConfig(num_query_groups=config["num_key_value_heads"], kv_channels=head,
                                 qk_layernorm=config["model_type"].startswith("qwen3"), **keys)
    return MLATransformerConfig(
        q_lora_rank=config["q_lora_rank"], kv_lora_rank=config["kv_lora_rank"], qk_layernorm=True, rope_type="rope",
        qk_head_dim=config["qk_nope_head_dim"], qk_pos_emb_head_dim=config["qk_rope_head_dim"],
        v_head_dim=config["v_head_dim"], **keys)


def pipeline_layout(setting):
    """What Megatron is told where layers for multi-token prediction have a stage of their own."""
    layers, mtp_layers = ([int(count) for count in setting[key].split("-")] for key in ("layers", "mtp_layers"))
    stages = [["decoder"] * decoder + ["mtp"] * mtp for decoder, mtp in zip(layers, mtp_layers)]
    return [["embedding"] * (stage == 0) + names + ["loss"] * (stage == len(stages) - 1)
            for stage, names in enumerate(stages)]


def mtp_spec(transformer, spec, vp_stage):
    """Of the layers for multi-token prediction of this process, if it has any: as the decoder's last layer is."""
    if not transformer.mtp_num_layers:
        return None
    if not spec.layer_specs:  # a stage without layers of the decoder
        spec = get_gpt_decoder_layer_specs(transformer, use_transformer_engine=False)[-1]
    return get_gpt_mtp_block_spec(transformer, spec, use_transformer_engine=False, vp_stage=vp_stage)


def padded_vocabulary(config, setting):
    multiple = 128 * setting["tp"]
    return -(-config["vocab_size"] // multiple) * multiple


def build(config, setting, vp_stage=None):
    """The GPTModel of this process, in the groups that parallel_state has now; a chunk of it with vp_stage."""
    transformer = transformer_config(config, setting)
    spec = get_gpt_decoder_block_spec(transformer, use_transformer_engine=False, vp_stage=vp_stage)
    return GPTModel(
        transformer, spec, vocab_size=padded_vocabulary(config, setting), max_sequence_length=64,
        position_embedding_type="rope", vp_stage=vp_stage, mtp_block_spec=mtp_spec(transformer, spec, vp_stage),
        pre_process=parallel_state.is_pipeline_first_stage(ignore_virtual=vp_stage is None, vp_stage=vp_stage),
        post_process=parallel_state.is_pipeline_last_stage(ignore_virtual=vp_stage is None, vp_stage=vp_stage),
        share_embeddings_and_output_weights=config.get("tie_word_embeddings", False))


def init_groups(setting, **keys):
    """The groups of a job of this setting, among all processes; keys as initialize_model_parallel has them."""
    parallel_state.initialize_model_parallel(
        setting["tp"], setting["pp"], expert_model_parallel_size=setting["ep"] or 1,
        expert_tensor_parallel_size=setting["etp"], create_gloo_process_groups=False, **keys)
