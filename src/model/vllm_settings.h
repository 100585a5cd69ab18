// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/status.h"
#include "src/model/expert_maps.h"
#include "src/model/layout_text.h"
#include "src/model/parameter.h"

namespace reshard {

/// What a "vllm:" text says of a server, and what vLLM makes of it.
struct VllmSettings {
  std::int32_t tp = 1;
  std::int32_t pp = 1;
  std::int32_t dp = 1;
  std::int32_t replicas = 1;
  bool has_ep = false;               ///< the routed experts are spread over tp x dp ranks instead of cut
  std::vector<std::int64_t> layers;  ///< of each pipeline stage, VLLM_PP_LAYER_PARTITION; empty: as vLLM deals them
  ExpertSettings experts;
  std::string mm_encoder_tp_mode;  ///< "weights": tp cuts a vision tower; "data": it is whole on every rank
  std::string all2all;  ///< vLLM's --all2all-backend: with ep it decides about round_robin and about shared experts
};

/// The settings of a text, checked against each other. A missing dp follows from ep.
Result<VllmSettings> read_vllm_settings(const LayoutText& text);

/// vLLM's use_sequence_parallel_moe: the ranks of a tensor-parallel group take different tokens through the experts, so
/// families that know it keep their shared experts whole on every rank.
bool is_sequence_parallel_moe(const VllmSettings& settings);

/// Error: redundant experts, or a table of them, in a family of which vLLM does not support such (EPLB).
Status check_balanced(const LayoutText& text, const VllmSettings& settings, const Model& model);

/// vLLM takes round_robin for a wish and deals linearly, with a warning in its log, where a condition fails. A layout
/// that obeyed would be wrong and one that did not would surprise, so a wish that vLLM does not grant is an error.
Status check_round_robin(const LayoutText& text, const VllmSettings& settings, const Model& model);

}  // namespace reshard
