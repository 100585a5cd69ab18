// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/status.h"
#include "src/model/layout_text.h"
#include "src/model/parameter.h"

namespace reshard {

/// How the layers of a model are dealt out to pipeline stages.
struct StageSettings {
  std::vector<std::int64_t> layers;  ///< of each stage, those without parameters (no-op) included
  std::int64_t num_chunks = 1;     ///< virtual stages: each stage has so many runs of layers, in turns with the others
  std::vector<std::int64_t> noop;  ///< places without a layer, ascending; places count from 0 over all chunks in order
};

/// Which pipeline stage computes a layer, in which of its chunks, and as which layer of that.
class Stages {
 public:
  struct Place {
    std::int32_t stage = 0;
    std::int64_t chunk = 0;
    std::int64_t number = 0;  ///< within the chunk, no-op layers counted
  };

  /// Errors, with what would be right: layers that do not add up to num_layers and the no-op places, a stage whose
  /// layers do not divide over its chunks, a no-op place that does not exist.
  static Result<Stages> create(const StageSettings& settings, std::int64_t num_layers);

  /// All layers on one stage, in one chunk.
  static Stages on_one(std::int32_t stage, std::int64_t chunk, std::int64_t num_layers);

  const Place& place_of(std::int64_t layer) const { return places_[static_cast<std::size_t>(layer)]; }

  /// The stage of a parameter: what lies before the layers is on the first stage, what lies behind them on the last. In
  /// a model with a vision tower: on the first that has layers of the decoder, or of the tower; behind the tower, on
  /// the last that has layers of it. What is for multi-token prediction is all on one stage.
  std::int32_t of(const Model& model, const Param& param) const;

  std::int64_t num_chunks() const { return num_chunks_; }

 private:
  std::vector<Place> places_;  // by layer of the model
  std::int32_t num_stages_ = 1;
  std::int64_t num_chunks_ = 1;
};

/// The same, with the layout's text before an error.
Result<Stages> make_stages(const LayoutText& text, const StageSettings& settings, std::int64_t num_layers);

}  // namespace reshard
