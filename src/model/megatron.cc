// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What the ranks of a Megatron-Core job hold. Two things make it unlike vLLM: linear_qkv is interleaved by query group,
// and routed experts lie on a mesh of their own over the same ranks, so that a stage has two meshes.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "src/base/arithmetic.h"
#include "src/model/schemes.h"

namespace reshard {
namespace {

struct MegatronSettings {
  std::int32_t tp = 1;
  std::int32_t pp = 1;
  std::int32_t dp = 1;
  std::int32_t ep = 1;
  std::int32_t etp = 1;              ///< 1 unless given; Megatron itself would take tp
  std::vector<std::int64_t> layers;  ///< per stage; empty: balanced
  bool has_legacy_experts = false;   ///< GroupedMLP, whose memory is the transpose of TEGroupedMLP's
};

Result<std::vector<std::int64_t>> read_layers(const LayoutText& text, std::int32_t pp) {
  std::vector<std::int64_t> layers;
  const std::string* value = text.find("layers");
  if (value == nullptr) return layers;
  constexpr std::int64_t kTooMany = 1'000'000;
  std::int64_t count = -1;  // -1: no digit since the last dash
  for (const char c : *value + "-") {
    const bool is_digit = c >= '0' && c <= '9';
    if (is_digit && count < kTooMany) {
      count = std::max<std::int64_t>(count, 0) * 10 + (c - '0');
    } else if (c == '-' && count >= 0) {
      layers.push_back(count);
      count = -1;
    } else {
      return text.error(fmt::format("layers is \"{}\", expected layers per stage such as 7-7-8", *value));
    }
  }
  if (layers.size() != static_cast<std::size_t>(pp)) {
    return text.error(fmt::format("layers names {} stages, but pp = {}", layers.size(), pp));
  }
  return layers;
}

Result<MegatronSettings> read_settings(const LayoutText& text) {
  MegatronSettings settings;
  RESHARD_TRY(settings.tp, text.integer("tp", 1));
  RESHARD_TRY(settings.pp, text.integer("pp", 1));
  RESHARD_TRY(settings.dp, text.integer("dp", 1));
  RESHARD_TRY(settings.ep, text.integer("ep", 1));
  RESHARD_TRY(settings.etp, text.integer("etp", 1));
  RESHARD_TRY(settings.layers, read_layers(text, settings.pp));
  RESHARD_TRY(const std::string experts, text.word("experts", {"te", "gmm"}));
  settings.has_legacy_experts = experts == "gmm";
  RESHARD_TRY(const std::int32_t stage_ranks, text.num_ranks({settings.tp, settings.dp}));
  RESHARD_TRY(const std::int32_t expert_ranks, text.num_ranks({settings.ep, settings.etp}));
  RESHARD_TRY(text.check_divides("ep x etp", expert_ranks, "tp x dp", stage_ranks));
  return settings;
}

/// Name in the checkpoint, name in Megatron-Core (its local layer specification). Parameters with the same second name
/// are fused. Layer numbers stay those of the model, as in Megatron's distributed checkpoints.
constexpr std::array<std::array<std::string_view, 2>, 32> kNames = {{
    {"model.embed_tokens.weight", "embedding.word_embeddings.weight"},
    {"model.norm.weight", "decoder.final_layernorm.weight"},
    {"lm_head.weight", "output_layer.weight"},
    {"input_layernorm.weight", "input_layernorm.weight"},
    {"post_attention_layernorm.weight", "pre_mlp_layernorm.weight"},
    {"self_attn.q_proj.weight", "self_attention.linear_qkv.weight"},
    {"self_attn.k_proj.weight", "self_attention.linear_qkv.weight"},
    {"self_attn.v_proj.weight", "self_attention.linear_qkv.weight"},
    {"self_attn.q_norm.weight", "self_attention.q_layernorm.weight"},
    {"self_attn.k_norm.weight", "self_attention.k_layernorm.weight"},
    {"self_attn.q_a_proj.weight", "self_attention.linear_q_down_proj.weight"},
    {"self_attn.q_a_layernorm.weight", "self_attention.q_layernorm.weight"},
    {"self_attn.q_b_proj.weight", "self_attention.linear_q_up_proj.weight"},
    {"self_attn.kv_a_proj_with_mqa.weight", "self_attention.linear_kv_down_proj.weight"},
    {"self_attn.kv_a_layernorm.weight", "self_attention.kv_layernorm.weight"},
    {"self_attn.kv_b_proj.weight", "self_attention.linear_kv_up_proj.weight"},
    {"self_attn.o_proj.weight", "self_attention.linear_proj.weight"},
    {"mlp.gate_proj.weight", "mlp.linear_fc1.weight"},
    {"mlp.up_proj.weight", "mlp.linear_fc1.weight"},
    {"mlp.down_proj.weight", "mlp.linear_fc2.weight"},
    {"mlp.gate.weight", "mlp.router.weight"},
    {"block_sparse_moe.gate.weight", "mlp.router.weight"},
    {"mlp.gate.e_score_correction_bias", "mlp.router.expert_bias"},
    {"mlp.experts.gate_proj.weight", "mlp.experts.linear_fc1.weight"},
    {"mlp.experts.up_proj.weight", "mlp.experts.linear_fc1.weight"},
    {"mlp.experts.down_proj.weight", "mlp.experts.linear_fc2.weight"},
    {"block_sparse_moe.experts.w1.weight", "mlp.experts.linear_fc1.weight"},
    {"block_sparse_moe.experts.w3.weight", "mlp.experts.linear_fc1.weight"},
    {"block_sparse_moe.experts.w2.weight", "mlp.experts.linear_fc2.weight"},
    {"mlp.shared_experts.gate_proj.weight", "mlp.shared_experts.linear_fc1.weight"},
    {"mlp.shared_experts.up_proj.weight", "mlp.shared_experts.linear_fc1.weight"},
    {"mlp.shared_experts.down_proj.weight", "mlp.shared_experts.linear_fc2.weight"},
}};

std::string megatron_name(const ModelConfig& config, const Param& param) {
  const auto* entry = std::find_if(kNames.begin(), kNames.end(), [&](const auto& e) { return e[0] == param.suffix; });
  std::string_view name = entry == kNames.end() ? param.suffix : (*entry)[1];
  // Latent attention without a low rank of q: a projection of its own, nothing is fused.
  if (config.has_latent_attention && param.suffix == "self_attn.q_proj.weight") {
    name = "self_attention.linear_q_proj.weight";
  }
  return is_in_layer(config, param) ? fmt::format("decoder.layers.{}.{}", param.layer, name) : std::string(name);
}

/// Where linear_qkv holds some heads of every query group: a group is its q heads, its k head, its v head. The ranks
/// cut the rows of the whole evenly; with more ranks than groups the cuts fall inside groups and even inside heads.
struct InterleavedHeads {
  std::int64_t first = 0;  ///< of the group's rep + 2 heads
  std::int64_t count = 0;
};

DimMapPtr interleaved_map(const ModelConfig& config, std::int64_t tp, InterleavedHeads heads) {
  const std::int64_t group_rows = (config.num_heads / config.num_kv_heads + 2) * config.head_dim;
  const std::int64_t rows = config.num_kv_heads * group_rows / tp;
  const std::int64_t held = heads.count * config.head_dim;  // rows of this tensor per group
  return make_parts(tp, [&](std::int64_t rank) {
    DimPart part;
    part.extent = rows;
    const std::int64_t begin = rank * rows, end = begin + rows;
    // From the first group that the rank's rows touch. In each, this tensor's rows are one run; what of it lies within
    // [begin, end) is a segment, whose local index counts the fused rows of all three tensors.
    for (std::int64_t group = begin / group_rows; group * group_rows < end; ++group) {
      const std::int64_t fused = group * group_rows + heads.first * config.head_dim;
      const std::int64_t from = std::max(begin, fused), to = std::min(end, fused + held);
      const std::int64_t shift = group * held - fused;  // from rows of the fused tensor to rows of this one
      if (from < to) part.segments.push_back({from + shift, to + shift, from - begin});
    }
    return part;
  });
}

// Axes of the two meshes that a stage has. Its ranks are the same in both: tensor parallel fastest for dense
// parameters (order tp-cp-ep-dp-pp), expert-tensor parallel, then expert parallel, for the routed experts.
constexpr int kTpAxis = 1;
constexpr int kEpAxis = 1;
constexpr int kEtpAxis = 2;

class MegatronPlacer {
 public:
  MegatronPlacer(const LayoutText& text, const MegatronSettings& settings, LayoutBuilder* builder)
      : text_(text),
        settings_(settings),
        builder_(builder),
        config_(builder->config()),
        pipeline_(layers_per_stage()) {}

  Status place_all() {
    RESHARD_TRY(check());
    RESHARD_TRY(make_meshes());
    make_maps();
    for (std::size_t i = 0; i < builder_->params().size(); ++i) {
      RESHARD_TRY(place(i).with_context("\"" + text_.text() + "\""));
    }
    return {};
  }

 private:
  /// As given, or balanced with the larger stages first.
  std::vector<std::int64_t> layers_per_stage() const {
    if (!settings_.layers.empty()) return settings_.layers;
    std::vector<std::int64_t> layers(static_cast<std::size_t>(settings_.pp), config_.num_layers / settings_.pp);
    std::fill_n(layers.begin(), config_.num_layers % settings_.pp, config_.num_layers / settings_.pp + 1);
    return layers;
  }

  /// What Megatron itself demands of the sizes; the widths are checked where they are cut.
  Status check() const {
    const std::vector<std::int64_t> layers = layers_per_stage();
    const std::int64_t num_layers = std::accumulate(layers.begin(), layers.end(), std::int64_t{0});
    if (num_layers != config_.num_layers) {
      return text_.error(fmt::format("layers add up to {}, but the model has {}", num_layers, config_.num_layers));
    }
    RESHARD_TRY(text_.check_divides("tp", settings_.tp, "num_attention_heads", config_.num_heads));
    if (!config_.has_latent_attention) {
      RESHARD_TRY(text_.check_divides("tp", settings_.tp, "the rows of linear_qkv",
                                      (config_.num_heads + 2 * config_.num_kv_heads) * config_.head_dim));
    }
    if (settings_.ep > 1 && config_.num_experts == 0) {
      return text_.error(fmt::format("ep = {}, but {} has no experts", settings_.ep, config_.model_type));
    }
    return text_.check_divides("ep", settings_.ep, "the number of experts", config_.num_experts);
  }

  Status make_meshes() {
    const std::int32_t stage_ranks = settings_.tp * settings_.dp;
    // Replicas of an expert: what ep and etp leave of the stage. It divides evenly, read_settings has seen to it.
    const std::int64_t expert_dp = stage_ranks / (settings_.ep * settings_.etp);
    for (std::int32_t stage = 0; stage < settings_.pp; ++stage) {
      std::vector<std::int32_t> ranks(static_cast<std::size_t>(stage_ranks));
      std::iota(ranks.begin(), ranks.end(), stage * stage_ranks);
      RESHARD_TRY(MeshPtr dense, builder_->mesh({{"dp", settings_.dp}, {"tp", settings_.tp}}, ranks));
      RESHARD_TRY(MeshPtr experts,
                  builder_->mesh({{"edp", expert_dp}, {"ep", settings_.ep}, {"etp", settings_.etp}}, ranks));
      dense_meshes_.push_back(std::move(dense));
      expert_meshes_.push_back(std::move(experts));
    }
    return {};
  }

  void make_maps() {
    // make_vocab_size_divisible_by = 128, Megatron's default; the rows behind the vocabulary are padding.
    const std::int64_t multiple = std::int64_t{128} * settings_.tp;
    const std::int64_t padded = ceil_div(config_.vocab_size, multiple) * multiple;
    vocab_ = builder_->maps().padded(config_.vocab_size, settings_.tp, padded / settings_.tp);
    if (config_.has_latent_attention) return;
    const std::int64_t rep = config_.num_heads / config_.num_kv_heads;
    q_ = interleaved_map(config_, settings_.tp, {0, rep});
    k_ = interleaved_map(config_, settings_.tp, {rep, 1});
    v_ = interleaved_map(config_, settings_.tp, {rep + 1, 1});
  }

  Status place(std::size_t i) {
    const Param& param = builder_->params()[i];
    const std::string name = megatron_name(config_, param);
    const auto stage = static_cast<std::size_t>(pipeline_.stage_of(param.layer));
    std::vector<DimPlacement> dims = whole_dims(param);
    if (is_routed_expert(param)) {
      RESHARD_TRY(dims[0].map, builder_->maps().even(config_.num_experts, settings_.ep));
      dims[0].axes = {kEpAxis};
      RESHARD_TRY(builder_->cut_width(param, settings_.etp, {kEtpAxis}, &dims).with_context(name));
      // The older grouped GEMM keeps the two dims of an expert's weight exchanged in memory; indices stay as they are.
      std::vector<int> order = settings_.has_legacy_experts ? std::vector<int>{0, 2, 1} : std::vector<int>{};
      return builder_->place(i, expert_meshes_[stage], std::move(dims), name, std::move(order));
    }
    RESHARD_TRY(cut_dense(param, &dims).with_context(name));
    RESHARD_TRY(builder_->place(i, dense_meshes_[stage], dims, name));
    if (param.role == Role::kEmbedding && config_.tie_embeddings && settings_.pp > 1) {
      // The last stage keeps a copy of its own as output layer; on one stage there is but one.
      return builder_->place(i, dense_meshes_.back(), std::move(dims), "output_layer.weight");
    }
    return {};
  }

  Status cut_dense(const Param& param, std::vector<DimPlacement>* dims) {
    const auto cut_rows = [&](const DimMapPtr& map) { (*dims)[0] = {map, {kTpAxis}}; };
    switch (param.role) {
      case Role::kEmbedding:
      case Role::kLmHead:
        cut_rows(vocab_);
        break;
      case Role::kQ:
        cut_rows(q_);
        break;
      case Role::kK:
        cut_rows(k_);
        break;
      case Role::kV:
        cut_rows(v_);
        break;
      case Role::kColumn:
      case Role::kRow:
      case Role::kGate:
      case Role::kUp:
        return builder_->cut_width(param, settings_.tp, {kTpAxis}, dims);
      default:
        break;  // whole on every rank; the down projections of latent attention too, as TELinear duplicates them
    }
    return {};
  }

  const LayoutText& text_;
  const MegatronSettings& settings_;
  LayoutBuilder* builder_;
  const ModelConfig& config_;
  Pipeline pipeline_;
  std::vector<MeshPtr> dense_meshes_, expert_meshes_;  // by stage
  DimMapPtr vocab_, q_, k_, v_;
};

}  // namespace

Result<std::int32_t> megatron_num_ranks(const LayoutText& text) {
  RESHARD_TRY(const MegatronSettings settings, read_settings(text));
  return text.num_ranks({settings.tp, settings.pp, settings.dp});
}

Status place_megatron(const LayoutText& text, LayoutBuilder* builder) {
  RESHARD_TRY(const MegatronSettings settings, read_settings(text));
  return MegatronPlacer(text, settings, builder).place_all();
}

}  // namespace reshard
