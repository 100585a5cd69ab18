// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/dtype.h"
#include "src/base/status.h"

namespace reshard {

/// Multi-head latent attention (DeepSeek): the low ranks and the three parts of a head.
struct LatentAttention {
  std::int64_t q_rank = 0;  ///< 0: q is projected in one step, by q_proj
  std::int64_t kv_rank = 0;
  std::int64_t nope_dim = 0;  ///< of a q or k head, without position
  std::int64_t rope_dim = 0;  ///< of a q head, and of the one k that all heads share
  std::int64_t v_dim = 0;
};

/// What a config.json says about the parameters of the model, the same for all families.
struct ModelConfig {
  std::string model_type;
  DType dtype = DType::kBF16;
  std::int64_t num_layers = 0;  ///< that are kept
  std::int64_t hidden_size = 0;
  std::int64_t vocab_size = 0;
  bool tie_embeddings = false;  ///< lm_head is the embedding: no parameter of its own

  std::int64_t num_heads = 0;
  std::int64_t num_kv_heads = 0;  ///< query groups; unused with latent attention
  std::int64_t head_dim = 0;      ///< unused with latent attention
  bool qk_norm = false;           ///< an RMS norm over each q and k head
  bool has_latent_attention = false;
  LatentAttention latent;

  std::int64_t ffn_size = 0;  ///< of a dense layer

  std::vector<bool> is_moe;  ///< by layer, also of the layers behind num_layers that are not kept
  std::int64_t num_experts = 0;
  std::int64_t expert_ffn_size = 0;
  std::int64_t shared_ffn_size = 0;       ///< of all shared experts together; 0: none
  std::int64_t num_expert_groups = 0;     ///< among which a router chooses first; 0: it does not
  bool has_correction_bias = false;       ///< mlp.gate.e_score_correction_bias
  bool names_correction_bias = false;     ///< by topk_method, which transformers 5 no longer writes
  bool has_mixtral_expert_names = false;  ///< block_sparse_moe.experts.w1 instead of mlp.experts.gate_proj
};

/// Reads a Hugging Face config.json and keeps the first `num_layers` layers (0: all).
/// Errors: RESHARD_ERR_INVALID_ARGUMENT for malformed text and for values out of range, naming key and value;
/// RESHARD_ERR_NOT_SUPPORTED for another model_type or an option of the family that changes its parameters.
Result<ModelConfig> parse_model_config(const std::string& config_json, std::int64_t num_layers);

}  // namespace reshard
