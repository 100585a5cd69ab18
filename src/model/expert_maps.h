// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/status.h"
#include "src/layout/dim_map.h"
#include "src/model/layout_text.h"
#include "src/model/parameter.h"

namespace reshard {

/// What a server's text says about which expert-parallel rank has which experts. At most one of the three is given.
struct ExpertSettings {
  std::int32_t redundant = 0;  ///< slots beyond one per expert; slot p holds expert p modulo experts
  std::string eplb_file;       ///< a table of its own; empty: none
  bool is_round_robin = false;
};

/// The cut of the expert dimension over `ep` ranks: one map for all layers, or one for each layer with experts.
/// Errors: a model without experts, and those of the table.
Result<std::vector<DimMapPtr>> make_expert_maps(const LayoutText& text, const ExpertSettings& settings,
                                                const Model& model, std::int64_t ep);

}  // namespace reshard
