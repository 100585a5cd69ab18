// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The sizes of an SGLang server, read from its source (0.5; python/sglang/srt); the package has not been run beside
// this.
//   distributed/parallel_state.py   a world has tp x pp ranks, tp fastest; moe_tp = tp / ep, the ranks of one expert
//                                   beside each other
//   layers/dp_attention.py          attention_tp = tp / attention_dp; index in the group = tp index % attention_tp
//   server_args.py                  with an all-to-all backend ep = tp
//   eplb/expert_location.py         slot p holds expert p % experts; ep divides the slots
#include "src/model/sglang_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace reshard {
namespace {

/// Families whose SGLang models were read, and which of them know attention_dp: the others cut attention over tp
/// whatever is asked for.
struct KnownModel {
  std::string_view model_type;
  bool knows_attention_dp = false;
};

constexpr std::array kKnown = {
    KnownModel{"llama"},           KnownModel{"mistral"},           KnownModel{"qwen2"},
    KnownModel{"qwen3"},           KnownModel{"mixtral"},           KnownModel{"qwen2_moe", true},
    KnownModel{"qwen3_moe", true}, KnownModel{"deepseek_v2", true}, KnownModel{"deepseek_v3", true},
    KnownModel{"kimi_k2", true},   KnownModel{"glm4_moe", true},
};

Status not_supported(const LayoutText& text, const std::string& message) {
  return {RESHARD_ERR_NOT_SUPPORTED, fmt::format("\"{}\": {}", text.text(), message)};
}

Status read_experts(const LayoutText& text, SglangSettings* settings) {
  RESHARD_TRY(settings->all2all, text.word("all2all", {"none", "deepep", "mooncake"}));
  settings->has_whole_shared = settings->all2all != "none";
  RESHARD_TRY(settings->ep, text.integer("ep", settings->has_whole_shared ? settings->tp : 1));
  RESHARD_TRY(text.check_divides("ep", settings->ep, "tp", settings->tp));
  if (settings->has_whole_shared && settings->ep != settings->tp) {
    return text.error(fmt::format("all2all={} spreads experts over all of tp = {} ranks, and ep = {}; leave ep out",
                                  settings->all2all, settings->tp, settings->ep));
  }
  RESHARD_TRY(settings->experts.redundant, text.integer("redundant", 0, 0));
  if (const std::string* file = text.find("eplb")) settings->experts.eplb_file = *file;
  for (const std::string_view key : {"redundant", "eplb"}) {
    if (settings->ep == 1 && text.find(key) != nullptr) return text.error(fmt::format("{} needs ep", key));
  }
  if (settings->experts.redundant > 0 && !settings->experts.eplb_file.empty()) {
    return text.error("redundant and eplb both say which experts are doubled; give one of them");
  }
  return {};
}

}  // namespace

Result<SglangSettings> read_sglang_settings(const LayoutText& text) {
  SglangSettings settings;
  RESHARD_TRY(settings.tp, text.integer("tp", 1));
  RESHARD_TRY(settings.pp, text.integer("pp", 1));
  RESHARD_TRY(settings.replicas, text.integer("replicas", 1));
  RESHARD_TRY(settings.layers, text.layers_of_stages(settings.pp));
  RESHARD_TRY(settings.attention_dp, text.integer("attention_dp", 1));
  RESHARD_TRY(text.check_divides("attention_dp", settings.attention_dp, "tp", settings.tp));
  RESHARD_TRY(const std::string dense, text.word("dense", {"cut", "whole"}));
  settings.has_whole_dense = dense == "whole";
  RESHARD_TRY(const std::string output, text.word("output", {"tp", "attention"}));
  settings.cuts_output_by_group = output == "attention";
  for (const std::string_view key : {"dense", "output"}) {
    if (settings.attention_dp == 1 && text.find(key) != nullptr) {
      return text.error(fmt::format("{} needs attention_dp", key));
    }
  }
  RESHARD_TRY(read_experts(text, &settings));
  return settings;
}

Status check_sglang_model(const LayoutText& text, const SglangSettings& settings, const Model& model) {
  const auto known = std::find_if(kKnown.begin(), kKnown.end(),
                                  [&](const KnownModel& each) { return each.model_type == model.model_type; });
  if (known == kKnown.end()) {
    return not_supported(text, fmt::format("how SGLang holds {} is not known here", model.model_type));
  }
  if (settings.attention_dp > 1 && !known->knows_attention_dp) {
    return not_supported(text, fmt::format("attention_dp = {}, but SGLang's {} has no data-parallel attention",
                                           settings.attention_dp, model.model_type));
  }
  // Biases that vLLM drops (Param::is_on_servers) SGLang may have.
  for (const Param& param : model.params) {
    if (param.is_on_servers || param.leaf != "bias") continue;
    return not_supported(text, fmt::format("whether SGLang's {} holds {} is not known here", model.model_type,
                                           checkpoint_name(model, param)));
  }
  if (settings.attention_dp > 1 && settings.pp > 1 && model.tie_embeddings) {
    return not_supported(text, "where SGLang puts a tied embedding with attention_dp and pp is not known here");
  }
  const std::int64_t attention_tp = settings.tp / settings.attention_dp, kv_heads = model.num_kv_heads;
  RESHARD_TRY(text.check_divides("attention tp", attention_tp, "num_attention_heads", model.num_heads));
  if (kv_heads > 0 && kv_heads % attention_tp != 0 && attention_tp % kv_heads != 0) {
    return text.error(fmt::format("attention tp = {} neither divides num_key_value_heads = {} nor is a multiple",
                                  attention_tp, kv_heads));
  }
  if (model.num_experts == 0) return {};
  // Without a table of slots SGLang deals evenly or not at all.
  if (!settings.experts.eplb_file.empty()) return {};
  return text.check_divides("ep", settings.ep, settings.experts.redundant > 0 ? "experts + redundant" : "experts",
                            model.num_experts + settings.experts.redundant);
}

}  // namespace reshard
