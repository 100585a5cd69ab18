// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/base/status.h"
#include "src/model/layout_text.h"
#include "src/model/parameter.h"

namespace reshard {

/// What a "megatron:" text says of a trainer.
struct MegatronSettings {
  std::int32_t tp = 1;
  std::int32_t pp = 1;
  std::int32_t dp = 1;
  std::int32_t ep = 1;
  std::int32_t etp = 1;              ///< 1 unless given; Megatron itself would take tp
  std::vector<std::int64_t> layers;  ///< per stage; empty: balanced
  bool has_legacy_experts = false;   ///< GroupedMLP, whose memory is the transpose of TEGroupedMLP's
};

/// The settings of a text, checked against each other.
Result<MegatronSettings> read_megatron_settings(const LayoutText& text);

/// What Megatron itself demands of the sizes; widths are checked where they are cut.
Status check_megatron_sizes(const LayoutText& text, const MegatronSettings& settings, const Model& model);

/// Layers of each stage: as given, or balanced with the larger stages first.
/// Error: they do not add up to the model's.
Result<std::vector<std::int64_t>> megatron_stages(const LayoutText& text, const MegatronSettings& settings,
                                                  const Model& model);

}  // namespace reshard
