// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/stages.h"

namespace reshard {

Stages::Stages(const std::vector<std::int64_t>& layers_per_stage)
    : num_stages_(static_cast<std::int32_t>(layers_per_stage.size())) {
  for (std::int32_t stage = 0; stage < num_stages_; ++stage) {
    const auto num_layers = static_cast<std::size_t>(layers_per_stage[static_cast<std::size_t>(stage)]);
    stage_of_layer_.insert(stage_of_layer_.end(), num_layers, stage);
  }
}

std::int32_t Stages::of(const Model& model, const Param& param) const {
  switch (stack_kind(model, param)) {
    case Stack::Kind::kBefore:
      return 0;
    case Stack::Kind::kBehind:
      return num_stages_ - 1;
    case Stack::Kind::kLayers:
      break;
  }
  return of_layer(param.layer);
}

}  // namespace reshard
