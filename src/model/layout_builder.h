// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "src/base/status.h"
#include "src/layout/layout.h"
#include "src/model/config.h"
#include "src/model/dim_maps.h"
#include "src/model/family.h"

namespace reshard {

/// A ModelLayout in the making: it has every tensor of the model, index by index as params(); a scheme places them.
class LayoutBuilder {
 public:
  /// Rank i of a scheme is ranks[i] of the world, which has world_size of them.
  static Result<LayoutBuilder> create(ModelConfig config, std::vector<Param> params, std::vector<std::int32_t> ranks,
                                      std::int32_t world_size);

  const ModelConfig& config() const { return config_; }
  const std::vector<Param>& params() const { return params_; }
  DimMaps& maps() { return maps_; }

  /// A mesh over ranks of the scheme, which count from 0.
  Result<MeshPtr> mesh(std::vector<MeshAxis> axes, std::vector<std::int32_t> ranks) const;

  /// Places params()[param] in the buffer of this name; parameters that give the same name are fused in one buffer.
  Status place(std::size_t param, MeshPtr mesh, std::vector<DimPlacement> dims, const std::string& buffer_name,
               std::vector<int> order = {});

  /// Cuts what a gated MLP or a linear layer divides among `num_parts` coordinates of `axes`: the rows of kColumn, the
  /// columns of kRow, and of gate and up the rows, gate above up in the buffer of each part. Experts likewise, one dim
  /// on. Error: num_parts does not divide the width.
  Status cut_width(const Param& param, std::int64_t num_parts, std::vector<int> axes, std::vector<DimPlacement>* dims);

  ModelLayout take() && { return std::move(layout_); }

 private:
  LayoutBuilder(ModelConfig config, std::vector<Param> params, std::vector<std::int32_t> ranks, std::int32_t world_size)
      : config_(std::move(config)), params_(std::move(params)), ranks_(std::move(ranks)), layout_(world_size) {}

  ModelConfig config_;
  std::vector<Param> params_;
  std::vector<std::int32_t> ranks_;  // of the world, by rank of the scheme
  ModelLayout layout_;
  DimMaps maps_;
  std::unordered_map<std::string, std::int64_t> buffers_;  // by name
};

/// Placement of all dims of a parameter whole.
inline std::vector<DimPlacement> whole_dims(const Param& param) {
  return std::vector<DimPlacement>(param.shape.size());
}

inline bool is_routed_expert(const Param& param) {
  return param.role == Role::kExpertGate || param.role == Role::kExpertUp || param.role == Role::kExpertDown;
}

/// Which pipeline stage computes a layer.
class Pipeline {
 public:
  explicit Pipeline(const std::vector<std::int64_t>& layers_per_stage);

  /// The stage of a layer; what comes before the first layer is on the first stage, what comes after the last on the
  /// last.
  std::int32_t stage_of(std::int64_t layer) const;
  std::int32_t last_stage() const { return last_stage_; }

 private:
  std::vector<std::int32_t> stage_of_layer_;
  std::int32_t last_stage_;
};

}  // namespace reshard
