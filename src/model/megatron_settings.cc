// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/megatron_settings.h"

#include <fmt/format.h>

#include <algorithm>

namespace reshard {
namespace {

Status read_stages(const LayoutText& text, MegatronSettings* settings) {
  RESHARD_TRY(settings->pp, text.integer("pp", 1));
  RESHARD_TRY(settings->vpp, text.integer("vpp", 1));
  RESHARD_TRY(settings->layers, text.layers_of_stages(settings->pp));
  RESHARD_TRY(settings->mtp_layers, text.layers_of_stages(settings->pp, "mtp_layers"));
  RESHARD_TRY(settings->vision_layers, text.layers_of_stages(settings->pp, "vision_layers"));
  RESHARD_TRY(settings->first, text.integer("first", 0));
  RESHARD_TRY(settings->last, text.integer("last", 0));
  const bool has_ends = settings->first > 0 || settings->last > 0;
  if (has_ends && !settings->layers.empty()) return text.error("layers says what first and last say; give one of them");
  if (has_ends && settings->pp == 1) return text.error("first and last need pp = 2 or more stages");
  RESHARD_TRY(settings->noop, text.list("noop", "places without a layer such as 5-95"));
  std::sort(settings->noop.begin(), settings->noop.end());
  const auto twice = std::adjacent_find(settings->noop.begin(), settings->noop.end());
  if (twice != settings->noop.end()) return text.error(fmt::format("noop names place {} twice", *twice));
  return {};
}

}  // namespace

Result<MegatronSettings> read_megatron_settings(const LayoutText& text) {
  MegatronSettings settings;
  RESHARD_TRY(settings.tp, text.integer("tp", 1));
  RESHARD_TRY(settings.cp, text.integer("cp", 1));
  RESHARD_TRY(settings.dp, text.integer("dp", 1));
  RESHARD_TRY(settings.ep, text.integer("ep", 1));
  RESHARD_TRY(settings.etp, text.integer("etp", 1));
  RESHARD_TRY(read_stages(text, &settings));
  RESHARD_TRY(settings.vocab_multiple, text.integer("vocab_multiple", 128));
  RESHARD_TRY(settings.glu_interleave, text.integer("glu_interleave", 0));
  RESHARD_TRY(settings.experts, text.word("experts", {"each", "local", "gmm"}));
  RESHARD_TRY(const std::string names, text.word("names", {"model", "chunk"}));
  settings.counts_in_chunk = names == "chunk";
  RESHARD_TRY(settings.mla_down, text.word("mla_down", {"whole", "cut", "fused"}));
  RESHARD_TRY(const std::string mla_up, text.word("mla_up", {"whole", "split"}));
  settings.splits_mla_up = mla_up == "split";
  RESHARD_TRY(const std::int32_t stage_ranks, text.num_ranks({settings.tp, settings.cp, settings.dp}));
  RESHARD_TRY(const std::int32_t expert_ranks, text.num_ranks({settings.ep, settings.etp}));
  RESHARD_TRY(text.check_divides("ep x etp", expert_ranks, settings.cp > 1 ? "tp x cp x dp" : "tp x dp", stage_ranks));
  return settings;
}

namespace {

/// The keys of latent attention, which must be there. What MindSpeed fuses or splits it does with low ranks of q and
/// kv.
Status check_latent_keys(const LayoutText& text, const MegatronSettings& settings, const Model& model) {
  const auto has_role = [&](std::string_view role) {
    return std::any_of(model.params.begin(), model.params.end(), [&](const Param& p) { return p.role == role; });
  };
  for (const std::string_view key : {"mla_down", "mla_up"}) {
    if (text.find(key) == nullptr || has_role("latent.kv_down")) continue;
    return text.error(fmt::format("{} needs latent attention, {} has none", key, model.model_type));
  }
  if (!has_role("latent.q") || (settings.mla_down != "fused" && !settings.splits_mla_up)) return {};
  return {RESHARD_ERR_NOT_SUPPORTED,
          fmt::format("\"{}\": {} needs a low rank of q, but q_lora_rank of {} is null: q is one projection, which "
                      "nobody here has seen in that form; leave it out",
                      text.text(), settings.splits_mla_up ? "mla_up=split" : "mla_down=fused", model.model_type)};
}

}  // namespace

Status check_megatron_modules(const LayoutText& text, const MegatronSettings& settings, const LayoutBuilder& builder) {
  const Model& model = builder.model();
  const auto refuse = [&](const std::string& why) {
    return Status{RESHARD_ERR_NOT_SUPPORTED, fmt::format("\"{}\": {}", text.text(), why)};
  };
  if (!model.megatron_lacks.empty()) {
    return refuse(fmt::format("Megatron-Core has no module for {} of {}", model.megatron_lacks, model.model_type));
  }
  RESHARD_TRY(check_latent_keys(text, settings, model));
  for (const std::size_t index : builder.chosen()) {
    const Param& param = builder.param(index);
    const std::string name = checkpoint_name(model, param);
    if (param.role == "linear.norm") {
      return refuse(
          fmt::format("{}: Megatron-Core's out_norm holds these values less one, and nothing here changes "
                      "values: exclude \"*.linear_attn.norm.weight\" and copy it by other means",
                      name));
    }
    if (param.role == "stacked.down" && param.leaf == "bias" && settings.etp > 1) {
      return refuse(fmt::format("{}: Megatron-Core has no biases of experts that are cut: etp must be 1", name));
    }
  }
  return {};
}

Status check_megatron_sizes(const LayoutText& text, const MegatronSettings& settings, const Model& model) {
  RESHARD_TRY(text.check_divides("tp", settings.tp, "num_attention_heads", model.num_heads));
  if (settings.ep > 1 && model.num_experts == 0) {
    return text.error(fmt::format("ep = {}, but {} has no experts", settings.ep, model.model_type));
  }
  return text.check_divides("ep", settings.ep, "the number of experts", model.num_experts);
}

Result<Stages> megatron_vision_stages(const LayoutText& text, const MegatronSettings& settings, const Model& model) {
  if (!has_tower(model) && !settings.vision_layers.empty()) {
    return text.error(fmt::format("vision_layers is given, but {} has no vision tower", model.model_type));
  }
  std::int64_t num_layers = 0;
  for (const Stack& stack : model.stacks) {
    if (stack.is_vision && stack.kind == Stack::Kind::kLayers) num_layers = stack.num_layers;
  }
  StageSettings stages{settings.vision_layers, 1, {}};
  if (stages.layers.empty()) {
    stages.layers.assign(static_cast<std::size_t>(settings.pp), 0);
    stages.layers.front() = num_layers;
  }
  Result<Stages> made = Stages::create(stages, num_layers);
  if (!made.ok()) return text.error("vision_layers: " + made.status().message());
  return made;
}

Result<Stages> megatron_mtp_stages(const LayoutText& text, const MegatronSettings& settings, const Model& model,
                                   const Stages& decoder) {
  if (model.num_mtp_layers > 0 && has_tower(model)) {
    return Status{
        RESHARD_ERR_NOT_SUPPORTED,
        fmt::format("\"{}\": mtp is {}, but what MindSpeed calls such layers behind a vision tower is not known "
                    "here; leave it out",
                    text.text(), model.num_mtp_layers)};
  }
  std::int32_t stage = settings.pp - 1;
  if (!settings.mtp_layers.empty()) {
    const auto has_some = std::find_if(settings.mtp_layers.begin(), settings.mtp_layers.end(),
                                       [](std::int64_t count) { return count > 0; });
    if (has_some == settings.mtp_layers.end() || *has_some != model.num_mtp_layers ||
        std::any_of(has_some + 1, settings.mtp_layers.end(), [](std::int64_t count) { return count > 0; })) {
      return text.error(
          fmt::format("mtp_layers is {}, but Megatron-Core has all layers for multi-token prediction on one "
                      "stage: expected mtp = {} for one stage and 0 for the others",
                      *text.find("mtp_layers"), model.num_mtp_layers));
    }
    stage = static_cast<std::int32_t>(has_some - settings.mtp_layers.begin());
  }
  const Stages::Place& end = decoder.place_of(model.num_layers - 1);
  if (model.num_mtp_layers > 0 && end.chunk + 1 == settings.vpp && stage < end.stage) {
    return text.error(
        fmt::format("mtp_layers names stage {}, but the decoder's last layer is on stage {}, and layers for "
                    "multi-token prediction come behind it",
                    stage, end.stage));
  }
  if (model.num_mtp_layers > 1 && std::any_of(model.stacks.begin(), model.stacks.end(), [](const Stack& stack) {
        return stack.is_mtp && stack.kind == Stack::Kind::kBefore;
      })) {
    return Status{RESHARD_ERR_NOT_SUPPORTED,
                  fmt::format("\"{}\": mtp is {}, but {} has one projection for all of its layers for multi-token "
                              "prediction, Megatron-Core one for each; give mtp=1",
                              text.text(), model.num_mtp_layers, model.model_type)};
  }
  return Stages::on_one(stage, settings.vpp - 1, model.num_mtp_layers);
}

Result<Stages> megatron_stages(const LayoutText& text, const MegatronSettings& settings, const Model& model) {
  StageSettings stages{settings.layers, settings.vpp, settings.noop};
  const std::int64_t num_places = model.num_layers + static_cast<std::int64_t>(settings.noop.size());
  if (stages.layers.empty()) {
    // What first and last leave is shared out over the other stages.
    const std::int64_t num_ends = (settings.first > 0 ? 1 : 0) + (settings.last > 0 ? 1 : 0);
    const std::int64_t middle = settings.pp - num_ends, rest = num_places - settings.first - settings.last;
    if (rest < 0 || (middle == 0 && rest > 0) || (num_ends > 0 && middle > 0 && rest % middle != 0)) {
      return text.error(fmt::format("first = {} and last = {} leave {} of {} layers for {} stages, which do not divide",
                                    settings.first, settings.last, rest, num_places, middle));
    }
    stages.layers.assign(static_cast<std::size_t>(settings.pp), middle == 0 ? 0 : rest / middle);
    if (num_ends == 0) std::for_each_n(stages.layers.begin(), rest % middle, [](std::int64_t& count) { ++count; });
    if (settings.first > 0) stages.layers.front() = settings.first;
    if (settings.last > 0) stages.layers.back() = settings.last;
  }
  return make_stages(text, stages, model.num_layers);
}

}  // namespace reshard
