// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The sizes of a vLLM server. A replica is pp stages of tp x dp ranks each. tp cuts every weight, dp copies the dense
// ones; with ep the routed experts lie on all tp x dp ranks of a stage, so that ep is not a size of its own but must be
// that product: it may be given in place of dp, or beside it as a check.
#include "src/model/vllm_settings.h"

#include <fmt/format.h>

#include <algorithm>

namespace reshard {
namespace {

bool has_all2all_of(const VllmSettings& settings, std::initializer_list<std::string_view> backends) {
  return std::find(backends.begin(), backends.end(), settings.all2all) != backends.end();
}

}  // namespace

bool is_sequence_parallel_moe(const VllmSettings& settings) {
  return settings.has_ep && settings.tp > 1 && settings.dp > 1 &&
         !has_all2all_of(settings, {"flashinfer_nvlink_two_sided", "moonep"});
}

Result<VllmSettings> read_vllm_settings(const LayoutText& text) {
  VllmSettings settings;
  RESHARD_TRY(settings.tp, text.integer("tp", 1));
  RESHARD_TRY(settings.pp, text.integer("pp", 1));
  RESHARD_TRY(settings.dp, text.integer("dp", 1));
  RESHARD_TRY(settings.replicas, text.integer("replicas", 1));
  RESHARD_TRY(settings.mm_encoder_tp_mode, text.word("mm_encoder_tp_mode", {"weights", "data"}));
  RESHARD_TRY(settings.layers, text.layers_of_stages(settings.pp));
  RESHARD_TRY(settings.experts.redundant, text.integer("redundant", 0, 0));
  RESHARD_TRY(const std::string placement, text.word("placement", {"linear", "round_robin"}));
  settings.experts.is_round_robin = placement == "round_robin";
  RESHARD_TRY(settings.all2all,
              text.word("all2all", {"allgather_reducescatter", "deepep_high_throughput", "deepep_low_latency",
                                    "deepep_v2", "flashinfer_nvlink_one_sided", "flashinfer_nvlink_two_sided",
                                    "mori_high_throughput", "mori_low_latency", "moonep", "nixl_ep"}));
  if (const std::string* file = text.find("eplb")) settings.experts.eplb_file = *file;
  settings.has_ep = text.find("ep") != nullptr;
  RESHARD_TRY(const std::int32_t ep, text.integer("ep", 1));
  if (settings.has_ep && text.find("dp") == nullptr) {
    RESHARD_TRY(text.check_divides("tp", settings.tp, "ep", ep));
    settings.dp = ep / settings.tp;
  }
  RESHARD_TRY(const std::int32_t stage_ranks, text.num_ranks({settings.tp, settings.dp}));
  if (settings.has_ep && ep != stage_ranks) {
    return text.error(fmt::format("ep = {}, but tp x dp = {}; they must be equal", ep, stage_ranks));
  }
  for (const std::string_view key : {"redundant", "eplb", "placement", "all2all"}) {
    if (!settings.has_ep && text.find(key) != nullptr) return text.error(fmt::format("{} needs ep", key));
  }
  // Which expert lies where is said either by a rule (linear, round_robin) or by a table (a file, or the one that
  // follows from a number of redundant experts), never by both.
  const bool has_table = settings.experts.redundant > 0 || !settings.experts.eplb_file.empty();
  if (settings.experts.redundant > 0 && !settings.experts.eplb_file.empty()) {
    return text.error("redundant and eplb both say which experts are doubled; give one of them");
  }
  if (has_table && settings.experts.is_round_robin) {
    return text.error("placement=round_robin excludes redundant and eplb, as in vLLM");
  }
  return settings;
}

Status check_balanced(const LayoutText& text, const VllmSettings& settings, const Model& model) {
  if ((settings.experts.redundant == 0 && settings.experts.eplb_file.empty()) || model.server.balances_experts)
    return {};
  return text.error(
      fmt::format("{} doubles experts, but vLLM's {} cannot: leave it out",
                  settings.experts.redundant > 0 ? fmt::format("redundant = {}", settings.experts.redundant) : "eplb",
                  model.model_type));
}

Status check_round_robin(const LayoutText& text, const VllmSettings& settings, const Model& model) {
  if (!settings.experts.is_round_robin) return {};
  constexpr std::string_view kAdvice = "vLLM places linearly there: leave placement out";
  if (model.num_expert_groups <= 1) {
    return text.error(fmt::format("placement=round_robin needs several expert groups (n_group), {} has {}; {}",
                                  model.model_type, model.num_expert_groups, kAdvice));
  }
  // Without dp the ranks reduce instead of exchanging tokens, and any order of experts will do.
  if (settings.dp > 1 && !has_all2all_of(settings, {"deepep_low_latency", "nixl_ep"})) {
    return text.error(
        fmt::format("placement=round_robin with dp = {} needs all2all=deepep_low_latency or nixl_ep, it "
                    "is {}; {}",
                    settings.dp, settings.all2all, kAdvice));
  }
  return {};
}

}  // namespace reshard
