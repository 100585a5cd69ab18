// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/megatron_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace reshard {
namespace {

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

}  // namespace

Result<MegatronSettings> read_megatron_settings(const LayoutText& text) {
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

Status check_megatron_sizes(const LayoutText& text, const MegatronSettings& settings, const Model& model) {
  RESHARD_TRY(text.check_divides("tp", settings.tp, "num_attention_heads", model.num_heads));
  if (settings.ep > 1 && model.num_experts == 0) {
    return text.error(fmt::format("ep = {}, but {} has no experts", settings.ep, model.model_type));
  }
  return text.check_divides("ep", settings.ep, "the number of experts", model.num_experts);
}

Result<std::vector<std::int64_t>> megatron_stages(const LayoutText& text, const MegatronSettings& settings,
                                                  const Model& model) {
  std::vector<std::int64_t> layers = settings.layers;
  if (layers.empty()) {
    layers.assign(static_cast<std::size_t>(settings.pp), model.num_layers / settings.pp);
    std::fill_n(layers.begin(), model.num_layers % settings.pp, model.num_layers / settings.pp + 1);
  }
  const std::int64_t num_layers = std::accumulate(layers.begin(), layers.end(), std::int64_t{0});
  if (num_layers != model.num_layers) {
    return text.error(fmt::format("layers add up to {}, but the model has {}", num_layers, model.num_layers));
  }
  return layers;
}

}  // namespace reshard
