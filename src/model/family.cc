// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Every parameter of a model under its checkpoint name and with its true shape, in the order of a forward pass. A role
// says what frameworks do with it: which dim they cut, what they fuse it with. The routed experts of a layer are one
// tensor for each projection, with the expert as dim 0, whatever the checkpoint does.
#include "src/model/family.h"

#include <fmt/format.h>

#include "src/layout/box.h"

namespace reshard {
namespace {

constexpr std::int64_t kMaxElements = std::int64_t{1} << 60;

/// Collects the parameters of one model, layer by layer.
class Lister {
 public:
  explicit Lister(const ModelConfig& config) : config_(config) {}

  std::vector<Param> list() {
    layer_ = -1;
    add(Role::kEmbedding, "model.embed_tokens.weight", {config_.vocab_size, config_.hidden_size});
    for (layer_ = 0; layer_ < config_.num_layers; ++layer_) add_layer();
    add(Role::kReplicated, "model.norm.weight", {config_.hidden_size});
    if (!config_.tie_embeddings) {
      add(Role::kLmHead, "lm_head.weight", {config_.vocab_size, config_.hidden_size});
    }
    return std::move(params_);
  }

 private:
  using Shape = std::vector<std::int64_t>;

  void add(Role role, std::string_view suffix, Shape shape) {
    params_.push_back({role, layer_, suffix, std::move(shape), config_.dtype});
  }

  void add_layer() {
    add(Role::kReplicated, "input_layernorm.weight", {config_.hidden_size});
    if (config_.has_latent_attention) {
      add_latent_attention();
    } else {
      add_grouped_query_attention();
    }
    add(Role::kReplicated, "post_attention_layernorm.weight", {config_.hidden_size});
    if (!config_.is_moe[static_cast<std::size_t>(layer_)]) {
      add_dense_mlp();
    } else if (config_.has_mixtral_expert_names) {
      add_mixtral_experts();
    } else {
      add_experts();
    }
  }

  void add_grouped_query_attention() {
    const std::int64_t hidden = config_.hidden_size;
    const std::int64_t q_rows = config_.num_heads * config_.head_dim;
    const std::int64_t kv_rows = config_.num_kv_heads * config_.head_dim;
    add(Role::kQ, "self_attn.q_proj.weight", {q_rows, hidden});
    add(Role::kK, "self_attn.k_proj.weight", {kv_rows, hidden});
    add(Role::kV, "self_attn.v_proj.weight", {kv_rows, hidden});
    if (config_.qk_norm) {
      add(Role::kReplicated, "self_attn.q_norm.weight", {config_.head_dim});
      add(Role::kReplicated, "self_attn.k_norm.weight", {config_.head_dim});
    }
    add(Role::kRow, "self_attn.o_proj.weight", {hidden, q_rows});
  }

  void add_latent_attention() {
    const LatentAttention& latent = config_.latent;
    const std::int64_t hidden = config_.hidden_size;
    const std::int64_t q_rows = config_.num_heads * (latent.nope_dim + latent.rope_dim);
    if (latent.q_rank == 0) {
      add(Role::kColumn, "self_attn.q_proj.weight", {q_rows, hidden});
    } else {
      add(Role::kQDown, "self_attn.q_a_proj.weight", {latent.q_rank, hidden});
      add(Role::kReplicated, "self_attn.q_a_layernorm.weight", {latent.q_rank});
      add(Role::kColumn, "self_attn.q_b_proj.weight", {q_rows, latent.q_rank});
    }
    // Its last rope_dim rows are the one key that all heads share: they are not cut with the heads.
    add(Role::kKvDown, "self_attn.kv_a_proj_with_mqa.weight", {latent.kv_rank + latent.rope_dim, hidden});
    add(Role::kReplicated, "self_attn.kv_a_layernorm.weight", {latent.kv_rank});
    add(Role::kColumn, "self_attn.kv_b_proj.weight",
        {config_.num_heads * (latent.nope_dim + latent.v_dim), latent.kv_rank});
    add(Role::kRow, "self_attn.o_proj.weight", {hidden, config_.num_heads * latent.v_dim});
  }

  void add_dense_mlp() {
    const std::int64_t hidden = config_.hidden_size, ffn = config_.ffn_size;
    add(Role::kGate, "mlp.gate_proj.weight", {ffn, hidden});
    add(Role::kUp, "mlp.up_proj.weight", {ffn, hidden});
    add(Role::kRow, "mlp.down_proj.weight", {hidden, ffn});
  }

  void add_mixtral_experts() {
    const std::int64_t experts = config_.num_experts, hidden = config_.hidden_size, ffn = config_.expert_ffn_size;
    add(Role::kReplicated, "block_sparse_moe.gate.weight", {experts, hidden});
    // w1 is the gate, w3 what it multiplies (up), w2 the way back.
    add(Role::kExpertGate, "block_sparse_moe.experts.w1.weight", {experts, ffn, hidden});
    add(Role::kExpertUp, "block_sparse_moe.experts.w3.weight", {experts, ffn, hidden});
    add(Role::kExpertDown, "block_sparse_moe.experts.w2.weight", {experts, hidden, ffn});
  }

  void add_experts() {
    const std::int64_t experts = config_.num_experts, hidden = config_.hidden_size, ffn = config_.expert_ffn_size;
    add(Role::kReplicated, "mlp.gate.weight", {experts, hidden});
    if (config_.has_correction_bias) {
      add(Role::kBuffer, "mlp.gate.e_score_correction_bias", {experts});
      params_.back().dtype = DType::kF32;  // its updates are too small for bf16; every framework keeps it so
    }
    add(Role::kExpertGate, "mlp.experts.gate_proj.weight", {experts, ffn, hidden});
    add(Role::kExpertUp, "mlp.experts.up_proj.weight", {experts, ffn, hidden});
    add(Role::kExpertDown, "mlp.experts.down_proj.weight", {experts, hidden, ffn});
    if (const std::int64_t shared = config_.shared_ffn_size; shared > 0) {
      add(Role::kGate, "mlp.shared_experts.gate_proj.weight", {shared, hidden});
      add(Role::kUp, "mlp.shared_experts.up_proj.weight", {shared, hidden});
      add(Role::kRow, "mlp.shared_experts.down_proj.weight", {hidden, shared});
    }
  }

  const ModelConfig& config_;
  std::int64_t layer_ = 0;
  std::vector<Param> params_;
};

}  // namespace

Result<std::vector<Param>> list_parameters(const ModelConfig& config) {
  std::vector<Param> params = Lister(config).list();
  std::int64_t total = 0;
  for (const Param& param : params) {
    RESHARD_TRY(const std::int64_t count, checked_num_elements(param.shape));
    if (count > kMaxElements - total) {
      return invalid_argument(fmt::format("config: the model has more than 2^60 parameters, from {} of shape [{}] on",
                                          checkpoint_name(config, param), fmt::join(param.shape, ", ")));
    }
    total += count;
  }
  return params;
}

bool is_in_layer(const ModelConfig& config, const Param& param) {
  return param.layer >= 0 && param.layer < config.num_layers;
}

std::string checkpoint_name(const ModelConfig& config, const Param& param) {
  if (!is_in_layer(config, param)) return std::string(param.suffix);
  return fmt::format("model.layers.{}.{}", param.layer, param.suffix);
}

}  // namespace reshard
