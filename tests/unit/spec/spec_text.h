// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace reshard {

/// The example of the form: 4 ranks hold rows, 4 others get columns.
inline nlohmann::json example_spec() {
  return nlohmann::json::parse(R"({"version": 1, "ranks": 8, "tensors": [
    {"name": "w", "group": 0, "shape": [240, 241],
     "src": {"dtype": "bf16", "mesh": {"axes": [["dp", 2], ["tp", 2]], "ranks": [0, 1, 2, 3]},
             "placements": ["replicate", {"shard": 0}]},
     "dst": {"dtype": "bf16", "mesh": {"axes": [["tp", 4]], "ranks": [4, 5, 6, 7]},
             "placements": [{"shard": 1, "rule": "chunk"}]}}]})");
}

/// The same with another shape and another destination, whose mesh is an axis "x" over ranks 0 to size - 1.
inline nlohmann::json spec_with(const char* shape, int size, const char* placements, const char* more = "{}") {
  nlohmann::json spec = example_spec();
  nlohmann::json& tensor = spec["tensors"][0];
  tensor["shape"] = nlohmann::json::parse(shape);
  tensor["src"]["placements"] = {"replicate", "replicate"};
  nlohmann::json& dst = tensor["dst"];
  dst["mesh"]["axes"] = nlohmann::json::array({nlohmann::json::array({"x", size})});
  dst["mesh"]["ranks"] = nlohmann::json::array();
  for (int rank = 0; rank < size; ++rank) dst["mesh"]["ranks"].push_back(rank);
  dst["placements"] = nlohmann::json::parse(placements);
  dst.update(nlohmann::json::parse(more));
  return spec;
}

}  // namespace reshard
