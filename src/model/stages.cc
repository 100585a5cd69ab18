// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Places are numbered as a forward pass takes them: chunk 0 of every stage, then chunk 1 of every stage, and so on. A
// layer of the model is a place that is not a no-op one; its number is that of its place less the no-op ones before.
#include "src/model/stages.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace reshard {

Result<Stages> Stages::create(const StageSettings& settings, std::int64_t num_layers) {
  const std::int64_t num_places = std::accumulate(settings.layers.begin(), settings.layers.end(), std::int64_t{0});
  const auto num_noop = static_cast<std::int64_t>(settings.noop.size());
  if (num_places != num_layers + num_noop) {
    return invalid_argument(fmt::format("layers add up to {}, but the model has {}{}", num_places, num_layers,
                                        num_noop == 0 ? "" : fmt::format(" and there are {} no-op ones", num_noop)));
  }
  if (num_noop > 0 && settings.noop.back() >= num_places) {
    return invalid_argument(
        fmt::format("noop names place {}, but places are 0 to {}", settings.noop.back(), num_places - 1));
  }
  for (std::size_t stage = 0; stage < settings.layers.size(); ++stage) {
    if (settings.layers[stage] % settings.num_chunks == 0) continue;
    return invalid_argument(fmt::format("the {} layers of stage {} do not divide over vpp = {} chunks; give layers",
                                        settings.layers[stage], stage, settings.num_chunks));
  }
  Stages stages;
  stages.num_stages_ = static_cast<std::int32_t>(settings.layers.size());
  stages.num_chunks_ = settings.num_chunks;
  std::int64_t at = 0;
  for (std::int64_t chunk = 0; chunk < settings.num_chunks; ++chunk) {
    for (std::int32_t stage = 0; stage < stages.num_stages_; ++stage) {
      const std::int64_t count = settings.layers[static_cast<std::size_t>(stage)] / settings.num_chunks;
      for (std::int64_t number = 0; number < count; ++number, ++at) {
        const bool is_noop = std::binary_search(settings.noop.begin(), settings.noop.end(), at);
        if (!is_noop) stages.places_.push_back({stage, chunk, number});
      }
    }
  }
  return stages;
}

Stages Stages::on_one(std::int32_t stage, std::int64_t chunk, std::int64_t num_layers) {
  Stages stages;
  stages.num_stages_ = stage + 1;
  stages.num_chunks_ = chunk + 1;
  for (std::int64_t number = 0; number < num_layers; ++number) stages.places_.push_back({stage, chunk, number});
  return stages;
}

std::int32_t Stages::of(const Model& model, const Param& param) const {
  const Stack& stack = stack_of(model, param);
  switch (stack.kind) {
    case Stack::Kind::kBefore:
      // Of a tower and a decoder each begins where its layers do, which need not be the first stage.
      return has_tower(model) || stack.is_mtp ? places_.front().stage : 0;
    case Stack::Kind::kBehind:
      return stack.is_vision ? places_.back().stage : num_stages_ - 1;
    case Stack::Kind::kLayers:
      break;
  }
  return place_of(param.layer).stage;
}

Result<Stages> make_stages(const LayoutText& text, const StageSettings& settings, std::int64_t num_layers) {
  Result<Stages> made = Stages::create(settings, num_layers);
  if (!made.ok()) return text.error(made.status().message());
  return made;
}

}  // namespace reshard
