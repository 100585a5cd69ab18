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

/// What a "sglang:" text says of a server. A stage has tp ranks. Attention divides them into attention_dp groups, which
/// repeat each other and cut over the ranks of a group; routed experts divide them into ep groups, which have different
/// experts and cut each over the ranks of a group.
struct SglangSettings {
  std::int32_t tp = 1;  ///< --tp-size, ranks of a stage
  std::int32_t pp = 1;
  std::int32_t replicas = 1;      ///< servers
  std::int32_t attention_dp = 1;  ///< --dp-size with --enable-dp-attention; without the flag it is replicas
  std::int32_t ep = 1;
  bool has_whole_dense = false;       ///< --moe-dense-tp-size 1: MLPs of layers without experts are whole everywhere
  bool cuts_output_by_group = false;  ///< --enable-dp-lm-head: the output layer is cut within an attention group
  std::string all2all = "none";       ///< --moe-a2a-backend
  bool has_whole_shared = false;      ///< it has one: shared experts are whole on every rank
  std::vector<std::int64_t> layers;   ///< of each stage, SGLANG_PP_LAYER_PARTITION; empty: as SGLang deals them
  ExpertSettings experts;
};

/// The settings of a text, checked against each other.
Result<SglangSettings> read_sglang_settings(const LayoutText& text);

/// What SGLang demands of the model, and what of it is known here.
Status check_sglang_model(const LayoutText& text, const SglangSettings& settings, const Model& model);

}  // namespace reshard
