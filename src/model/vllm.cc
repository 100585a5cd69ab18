// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a vLLM engine holds: its stages, its tensor-parallel cuts with fused parameters, and its experts. A parameter of
// the checkpoint is placed under the name of the vLLM parameter that holds it; several that share a name are one
// buffer, and the dim maps say which rows of it are whose. Nothing is fused in code: fusing is an offset in a DimPart.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "src/model/eplb.h"
#include "src/model/schemes.h"
#include "src/model/vllm_settings.h"

namespace reshard {
namespace {

/// vLLM's get_pp_indices: what does not divide goes one each to the stages before the last, from the back, because the
/// last one also has the output layer.
std::vector<std::int64_t> layers_per_stage(std::int64_t num_layers, std::int64_t pp) {
  std::vector<std::int64_t> layers(static_cast<std::size_t>(pp), num_layers / pp);
  for (std::int64_t i = 0; i < num_layers % pp; ++i) ++layers[static_cast<std::size_t>(pp - 2 - i)];
  return layers;
}

/// Name in the checkpoint, name in vLLM 0.32 where it differs. Parameters with the same second name are fused.
constexpr std::array<std::array<std::string_view, 2>, 15> kNames = {{
    {"self_attn.q_proj.weight", "self_attn.qkv_proj.weight"},
    {"self_attn.k_proj.weight", "self_attn.qkv_proj.weight"},
    {"self_attn.v_proj.weight", "self_attn.qkv_proj.weight"},
    {"self_attn.q_a_proj.weight", "self_attn.fused_qkv_a_proj.weight"},
    {"self_attn.kv_a_proj_with_mqa.weight", "self_attn.fused_qkv_a_proj.weight"},
    {"mlp.gate_proj.weight", "mlp.gate_up_proj.weight"},
    {"mlp.up_proj.weight", "mlp.gate_up_proj.weight"},
    {"mlp.shared_experts.gate_proj.weight", "mlp.shared_experts.gate_up_proj.weight"},
    {"mlp.shared_experts.up_proj.weight", "mlp.shared_experts.gate_up_proj.weight"},
    {"mlp.experts.gate_proj.weight", "mlp.experts.routed_experts.w13_weight"},
    {"mlp.experts.up_proj.weight", "mlp.experts.routed_experts.w13_weight"},
    {"mlp.experts.down_proj.weight", "mlp.experts.routed_experts.w2_weight"},
    {"block_sparse_moe.experts.w1.weight", "block_sparse_moe.experts.routed_experts.w13_weight"},
    {"block_sparse_moe.experts.w3.weight", "block_sparse_moe.experts.routed_experts.w13_weight"},
    {"block_sparse_moe.experts.w2.weight", "block_sparse_moe.experts.routed_experts.w2_weight"},
}};

std::string vllm_name(const ModelConfig& config, const Param& param) {
  // Latent attention without a low rank of q has nothing to fuse its kv_a_proj_with_mqa with.
  const bool is_unfused = config.has_latent_attention && config.latent.q_rank == 0;
  if (is_unfused && param.suffix.starts_with("self_attn.")) return checkpoint_name(config, param);
  Param renamed = param;
  const auto* entry = std::find_if(kNames.begin(), kNames.end(), [&](const auto& e) { return e[0] == param.suffix; });
  if (entry != kNames.end()) renamed.suffix = (*entry)[1];
  return checkpoint_name(config, renamed);
}

// Axes of a stage's mesh. vLLM numbers its ranks (replica, dp, pp, tp), tp fastest.
constexpr int kDpAxis = 1;
constexpr int kTpAxis = 2;

class VllmPlacer {
 public:
  VllmPlacer(const LayoutText& text, const VllmSettings& settings, LayoutBuilder* builder)
      : text_(text),
        settings_(settings),
        builder_(builder),
        config_(builder->config()),
        pipeline_(layers_per_stage(config_.num_layers, settings.pp)) {}

  Status place_all() {
    RESHARD_TRY(check());
    RESHARD_TRY(check_round_robin(text_, settings_, config_));
    RESHARD_TRY(make_meshes());
    RESHARD_TRY(make_expert_maps().with_context("\"" + text_.text() + "\""));
    make_dense_maps();
    for (std::size_t i = 0; i < builder_->params().size(); ++i) {
      RESHARD_TRY(place(i).with_context("\"" + text_.text() + "\""));
    }
    return {};
  }

 private:
  /// What vLLM itself demands of the heads and the vocabulary; the widths are checked where they are cut.
  Status check() const {
    if (config_.has_latent_attention && config_.tie_embeddings) {
      return {RESHARD_ERR_NOT_SUPPORTED,
              fmt::format("\"{}\": tie_word_embeddings is true, but vLLM's {} has an output layer of its own and would "
                          "leave it without values",
                          text_.text(), config_.model_type)};
    }
    const std::int64_t tp = settings_.tp, kv_heads = config_.num_kv_heads;
    RESHARD_TRY(text_.check_divides("tp", tp, "num_attention_heads", config_.num_heads));
    if (!config_.has_latent_attention && kv_heads % tp != 0 && tp % kv_heads != 0) {
      return text_.error(
          fmt::format("tp = {} neither divides num_key_value_heads = {} nor is a multiple", tp, kv_heads));
    }
    return text_.check_divides("tp", tp, "the padded vocabulary", padded_vocab());
  }

  /// vLLM pads the vocabulary to a multiple of 64 rows before it is cut, whatever tp is.
  std::int64_t padded_vocab() const { return (config_.vocab_size + 63) / 64 * 64; }

  Status make_meshes() {
    // A stage's ranks are not consecutive: pp lies between dp and tp, so that its mesh lists them one by one.
    const std::vector<MeshAxis> axes = {{"replica", settings_.replicas}, {"dp", settings_.dp}, {"tp", settings_.tp}};
    const std::int32_t num_outer = settings_.replicas * settings_.dp;
    for (std::int32_t stage = 0; stage < settings_.pp; ++stage) {
      std::vector<std::int32_t> ranks;
      for (std::int32_t outer = 0; outer < num_outer; ++outer) {
        for (std::int32_t t = 0; t < settings_.tp; ++t)
          ranks.push_back((outer * settings_.pp + stage) * settings_.tp + t);
      }
      RESHARD_TRY(MeshPtr mesh, builder_->mesh(axes, std::move(ranks)));
      meshes_.push_back(std::move(mesh));
    }
    return {};
  }

  /// With ep: the cut of the expert dimension, one for all layers or one per layer with experts.
  Status make_expert_maps() {
    if (!settings_.has_ep) return {};
    // Every rank of a stage is an expert-parallel rank: vLLM has no expert-tensor parallelism beside it.
    const std::int64_t ep = std::int64_t{settings_.tp} * settings_.dp;
    if (config_.num_experts == 0) {
      return text_.error(fmt::format("ep = {}, but {} has no experts", ep, config_.model_type));
    }
    std::vector<ExpertTable> tables;
    if (!settings_.eplb_file.empty()) {
      RESHARD_TRY(const std::string json, read_expert_map(settings_.eplb_file));
      RESHARD_TRY(tables, parse_expert_map(json, {config_.num_experts, config_.is_moe, ep}));
    } else if (settings_.redundant > 0) {
      RESHARD_TRY(ExpertTable table, redundant_experts(config_.num_experts, settings_.redundant, ep));
      tables.push_back(std::move(table));
    } else {
      tables.push_back(settings_.is_round_robin ? round_robin_experts(config_.num_experts, ep)
                                                : linear_experts(config_.num_experts, ep));
    }
    for (const ExpertTable& table : tables) expert_maps_.push_back(expert_dim_map(table));
    return {};
  }

  void make_dense_maps() {
    vocab_ = builder_->maps().padded(config_.vocab_size, settings_.tp, padded_vocab() / settings_.tp);
    if (config_.has_latent_attention) return;
    // [q heads | k heads | v heads]; with more ranks than k heads, rank t holds k head t / (tp / kv heads) whole.
    const std::int64_t tp = settings_.tp, dim = config_.head_dim;
    const std::int64_t q_rows = config_.num_heads / tp * dim;
    // At most one of num_copies and kv heads per rank is above 1, for check() has proved that one divides the other.
    const std::int64_t num_copies = std::max<std::int64_t>(1, tp / config_.num_kv_heads);
    const std::int64_t kv_rows = std::max<std::int64_t>(1, config_.num_kv_heads / tp) * dim;
    const std::int64_t extent = q_rows + 2 * kv_rows;
    q_ = make_parts(tp, [&](std::int64_t t) { return DimPart{{{t * q_rows, (t + 1) * q_rows, 0}}, extent}; });
    const auto kv = [&](std::int64_t local) {
      return make_parts(tp, [&](std::int64_t t) {
        const std::int64_t begin = t / num_copies * kv_rows;
        return DimPart{{{begin, begin + kv_rows, local}}, extent};
      });
    };
    k_ = kv(q_rows);
    v_ = kv(q_rows + kv_rows);
  }

  Status place(std::size_t i) {
    const Param& param = builder_->params()[i];
    if (param.role == Role::kBuffer && !config_.names_correction_bias) return {};  // vLLM makes none
    const std::string name = vllm_name(config_, param);
    std::vector<DimPlacement> dims = whole_dims(param);
    RESHARD_TRY(cut(param, &dims).with_context(name));
    for (std::int32_t stage = 0; stage < settings_.pp; ++stage) {
      if (!is_on_stage(param, stage)) continue;
      RESHARD_TRY(builder_->place(i, meshes_[static_cast<std::size_t>(stage)], dims, name));
    }
    return {};
  }

  bool is_on_stage(const Param& param, std::int32_t stage) const {
    if (stage == pipeline_.stage_of(param.layer)) return true;
    // Mixtral and Qwen3-MoE build embedding, norm and output layer whatever the stage, and load what they build.
    if (!is_in_layer(config_, param) && has_outer_params_everywhere()) return true;
    // The last stage loads a tied embedding too and uses it as its output layer.
    return param.role == Role::kEmbedding && config_.tie_embeddings && stage == pipeline_.last_stage();
  }

  bool has_outer_params_everywhere() const {
    return config_.model_type == "mixtral" || config_.model_type == "qwen3_moe";
  }

  Status cut(const Param& param, std::vector<DimPlacement>* dims) {
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
      case Role::kQDown:
      case Role::kKvDown:
        (*dims)[0] = {down_map(param.role), {}};
        break;
      case Role::kColumn:
      case Role::kRow:
      case Role::kGate:
      case Role::kUp:
        // There each rank computes the shared experts for its own tokens, so that it holds them whole.
        if (is_sequence_parallel_moe(settings_) && param.suffix.starts_with("mlp.shared_experts.")) {
          return builder_->cut_width(param, 1, {}, dims);
        }
        return builder_->cut_width(param, settings_.tp, {kTpAxis}, dims);
      case Role::kExpertGate:
      case Role::kExpertUp:
      case Role::kExpertDown:
        return cut_experts(param, dims);
      case Role::kReplicated:
      case Role::kBuffer:
        break;
    }
    return {};
  }

  /// [q_a rows | kv_a rows], whole on every rank.
  DimMapPtr down_map(Role role) {
    const std::int64_t q_rows = config_.latent.q_rank, kv_rows = config_.latent.kv_rank + config_.latent.rope_dim;
    return role == Role::kQDown ? builder_->maps().whole_at(q_rows, 0, q_rows + kv_rows)
                                : builder_->maps().whole_at(kv_rows, q_rows, q_rows + kv_rows);
  }

  /// Spread over the ranks of a stage with ep; else every expert is cut over them, also over dp.
  Status cut_experts(const Param& param, std::vector<DimPlacement>* dims) {
    const std::vector<int> all_ranks = {kDpAxis, kTpAxis};
    if (!settings_.has_ep) {
      return builder_->cut_width(param, std::int64_t{settings_.tp} * settings_.dp, all_ranks, dims);
    }
    (*dims)[0] = {expert_map_of(param.layer), all_ranks};
    return builder_->cut_width(param, 1, {}, dims);
  }

  const DimMapPtr& expert_map_of(std::int64_t layer) const {
    if (expert_maps_.size() == 1) return expert_maps_.front();
    // Maps are by layer with experts: as many as there are of those before this one.
    return expert_maps_[static_cast<std::size_t>(
        std::count(config_.is_moe.begin(), config_.is_moe.begin() + layer, true))];
  }

  const LayoutText& text_;
  const VllmSettings& settings_;
  LayoutBuilder* builder_;
  const ModelConfig& config_;
  Pipeline pipeline_;
  std::vector<MeshPtr> meshes_;  // by stage
  std::vector<DimMapPtr> expert_maps_;
  DimMapPtr vocab_, q_, k_, v_;
};

}  // namespace

Result<std::int32_t> vllm_num_ranks(const LayoutText& text) {
  RESHARD_TRY(const VllmSettings settings, read_vllm_settings(text));
  return text.num_ranks({settings.tp, settings.pp, settings.dp, settings.replicas});
}

Status place_vllm(const LayoutText& text, LayoutBuilder* builder) {
  RESHARD_TRY(const VllmSettings settings, read_vllm_settings(text));
  return VllmPlacer(text, settings, builder).place_all();
}

}  // namespace reshard
