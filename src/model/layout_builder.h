// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "src/base/status.h"
#include "src/layout/layout.h"
#include "src/model/dim_maps.h"
#include "src/model/parameter.h"

namespace reshard {

/// A ModelLayout in the making: it has every chosen tensor of the model; a scheme places them.
class LayoutBuilder {
 public:
  /// `chosen`: indices of the model's parameters that the layout has. Rank i of a scheme is ranks[i] of the world,
  /// which has world_size of them.
  static Result<LayoutBuilder> create(Model model, std::vector<std::size_t> chosen, std::vector<std::int32_t> ranks,
                                      std::int32_t world_size);

  const Model& model() const { return model_; }
  const std::vector<std::size_t>& chosen() const { return chosen_; }
  const Param& param(std::size_t index) const { return model_.params[index]; }
  DimMaps& maps() { return maps_; }

  /// A mesh over ranks of the scheme, which count from 0.
  Result<MeshPtr> mesh(std::vector<MeshAxis> axes, std::vector<std::int32_t> ranks) const;

  /// Places the tensor of the parameter chosen()[choice] in the buffer of this name; parameters that give the same name
  /// are fused in one buffer.
  Status place(std::size_t choice, MeshPtr mesh, std::vector<DimPlacement> dims, const std::string& buffer_name,
               std::vector<int> order = {});

  /// A buffer of one rank of the scheme, and elements [begin, end) of a flattened tensor, dense in it.
  Result<std::int64_t> rank_buffer(std::int32_t rank, std::string name, std::int64_t size_bytes);
  Status place_flat(std::size_t choice, std::int32_t rank, std::pair<std::int64_t, std::int64_t> range,
                    std::int64_t buffer, std::int64_t offset_bytes);

  ModelLayout take() && { return std::move(layout_); }

 private:
  LayoutBuilder(Model model, std::vector<std::size_t> chosen, std::vector<std::int32_t> ranks, std::int32_t world_size)
      : model_(std::move(model)), chosen_(std::move(chosen)), ranks_(std::move(ranks)), layout_(world_size) {}

  Model model_;
  std::vector<std::size_t> chosen_;
  std::vector<std::int32_t> ranks_;  // of the world, by rank of the scheme
  ModelLayout layout_;
  DimMaps maps_;
  std::unordered_map<std::string, std::int64_t> buffers_;  // by name
};

}  // namespace reshard
