// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What the schemes have in common: tensors under their checkpoint names, buffers under the framework's, meshes over the
// ranks that the caller gave. A scheme numbers its ranks from 0 as the framework does; they become ranks of the world
// here and nowhere else.
#include "src/model/layout_builder.h"

namespace reshard {

Result<LayoutBuilder> LayoutBuilder::create(Model model, std::vector<std::size_t> chosen,
                                            std::vector<std::int32_t> ranks, std::int32_t world_size) {
  LayoutBuilder builder(std::move(model), std::move(chosen), std::move(ranks), world_size);
  for (const std::size_t index : builder.chosen_) {
    const Param& param = builder.param(index);
    Tensor tensor{checkpoint_name(builder.model_, param), param.dtype, shape_of(param),
                  group_of(builder.model_, param)};
    RESHARD_TRY([[maybe_unused]] const std::int64_t id, builder.layout_.add_tensor(std::move(tensor)));
  }
  return builder;
}

Result<MeshPtr> LayoutBuilder::mesh(std::vector<MeshAxis> axes, std::vector<std::int32_t> ranks) const {
  for (std::int32_t& rank : ranks) rank = ranks_[static_cast<std::size_t>(rank)];
  return Mesh::create(std::move(axes), std::move(ranks));
}

Status LayoutBuilder::place(std::size_t choice, MeshPtr mesh, std::vector<DimPlacement> dims,
                            const std::string& buffer_name, std::vector<int> order) {
  const Param& tensor = param(chosen_[choice]);
  auto [buffer, is_new] = buffers_.try_emplace(buffer_name, -1);
  // Of arrays at offsets a plan makes sure that no two overlap where it writes.
  if (is_new) {
    buffer->second =
        tensor.shares_memory ? layout_.add_offset_buffer(buffer_name) : layout_.add_buffer(buffer_name, tensor.dtype);
  }
  Placement placement;
  placement.mesh = std::move(mesh);
  placement.dims = std::move(dims);
  placement.order = std::move(order);
  placement.buffer = buffer->second;
  Status placed = layout_.place(static_cast<std::int64_t>(choice), std::move(placement));
  return placed.ok() ? placed : std::move(placed).with_context(checkpoint_name(model_, tensor));
}

Result<std::int64_t> LayoutBuilder::rank_buffer(std::int32_t rank, std::string name, std::int64_t size_bytes) {
  return layout_.add_rank_buffer(ranks_[static_cast<std::size_t>(rank)], std::move(name), size_bytes);
}

Status LayoutBuilder::place_flat(std::size_t choice, std::int32_t rank, std::pair<std::int64_t, std::int64_t> range,
                                 std::int64_t buffer, std::int64_t offset_bytes) {
  return layout_.add_flat_range(ranks_[static_cast<std::size_t>(rank)], static_cast<std::int64_t>(choice), range.first,
                                range.second, buffer, offset_bytes);
}

}  // namespace reshard
