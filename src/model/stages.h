// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/model/layout_builder.h"

namespace reshard {

/// Which pipeline stage computes a layer.
class Stages {
 public:
  explicit Stages(const std::vector<std::int64_t>& layers_per_stage);

  /// The stage of a layer.
  std::int32_t of_layer(std::int64_t layer) const { return stage_of_layer_[static_cast<std::size_t>(layer)]; }

  /// The stage of a parameter: what lies before the layers is on the first stage, what lies behind them on the last.
  std::int32_t of(const Model& model, const Param& param) const;

  std::int32_t count() const { return num_stages_; }
  std::int64_t num_layers() const { return static_cast<std::int64_t>(stage_of_layer_.size()); }

 private:
  std::vector<std::int32_t> stage_of_layer_;
  std::int32_t num_stages_;
};

}  // namespace reshard
