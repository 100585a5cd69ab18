// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What the schemes have in common: tensors under their checkpoint names, buffers under the framework's, meshes over the
// ranks that the caller gave. A scheme numbers its ranks from 0 as the framework does; they become ranks of the world
// here and nowhere else.
#include "src/model/layout_builder.h"

namespace reshard {

Result<LayoutBuilder> LayoutBuilder::create(ModelConfig config, std::vector<Param> params,
                                            std::vector<std::int32_t> ranks, std::int32_t world_size) {
  LayoutBuilder builder(std::move(config), std::move(params), std::move(ranks), world_size);
  for (const Param& param : builder.params_) {
    // A group per layer, in the order in which a forward pass needs them; 0 is what comes before the first layer.
    Tensor tensor{checkpoint_name(builder.config_, param), param.dtype, param.shape, param.layer + 1};
    RESHARD_TRY([[maybe_unused]] const std::int64_t id, builder.layout_.add_tensor(std::move(tensor)));
  }
  return builder;
}

Result<MeshPtr> LayoutBuilder::mesh(std::vector<MeshAxis> axes, std::vector<std::int32_t> ranks) const {
  for (std::int32_t& rank : ranks) rank = ranks_[static_cast<std::size_t>(rank)];
  return Mesh::create(std::move(axes), std::move(ranks));
}

Status LayoutBuilder::place(std::size_t param, MeshPtr mesh, std::vector<DimPlacement> dims,
                            const std::string& buffer_name, std::vector<int> order) {
  auto [buffer, is_new] = buffers_.try_emplace(buffer_name, -1);
  if (is_new) buffer->second = layout_.add_buffer(buffer_name, params_[param].dtype);
  Placement placement;
  placement.mesh = std::move(mesh);
  placement.dims = std::move(dims);
  placement.order = std::move(order);
  placement.buffer = buffer->second;
  return layout_.place(static_cast<std::int64_t>(param), std::move(placement))
      .with_context(checkpoint_name(config_, params_[param]));
}

Status LayoutBuilder::cut_width(const Param& param, std::int64_t num_parts, std::vector<int> axes,
                                std::vector<DimPlacement>* dims) {
  const Role role = param.role;
  const bool is_up = role == Role::kUp || role == Role::kExpertUp;
  const bool is_gated = is_up || role == Role::kGate || role == Role::kExpertGate;
  const bool is_row = role == Role::kRow || role == Role::kExpertDown;
  // Weights are [out, in], those of routed experts [expert, out, in]. A row-parallel one is cut along `in`; all others
  // along `out`, where a gated pair shares one buffer: gate rows first, up rows behind them, on every rank.
  const std::size_t dim = (is_routed_expert(param) ? 1U : 0U) + (is_row ? 1U : 0U);
  RESHARD_TRY(DimMapPtr map, maps_.stacked(param.shape[dim], num_parts, is_up ? 1 : 0, is_gated ? 2 : 1));
  (*dims)[dim] = {std::move(map), std::move(axes)};
  return {};
}

Pipeline::Pipeline(const std::vector<std::int64_t>& layers_per_stage)
    : last_stage_(static_cast<std::int32_t>(layers_per_stage.size()) - 1) {
  for (std::int32_t stage = 0; stage <= last_stage_; ++stage) {
    const auto num_layers = static_cast<std::size_t>(layers_per_stage[static_cast<std::size_t>(stage)]);
    stage_of_layer_.insert(stage_of_layer_.end(), num_layers, stage);
  }
}

std::int32_t Pipeline::stage_of(std::int64_t layer) const {
  // -1 is what comes before the layers, and numbers behind the last one what comes after them.
  if (layer < 0) return 0;
  const auto index = static_cast<std::size_t>(layer);
  return index < stage_of_layer_.size() ? stage_of_layer_[index] : last_stage_;
}

}  // namespace reshard
