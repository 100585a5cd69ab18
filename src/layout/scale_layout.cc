// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/layout/scale_layout.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/arithmetic.h"

namespace reshard {
namespace {

/// Whether [begin, end) of a dim are whole blocks. The last one may be short.
std::optional<std::int64_t> border_inside(std::int64_t begin, std::int64_t end, std::int64_t extent,
                                          std::int64_t block) {
  if (begin % block != 0) return begin;
  if (end % block != 0 && end != extent) return end;
  return std::nullopt;
}

std::optional<CutBlock> find_cut_in_map(const DimMap& map, int dim, const ScaleGrid& grid) {
  for (const DimPart& part : map.parts) {
    for (const Segment& segment : part.segments) {
      const auto border = border_inside(segment.begin, segment.end, grid.shape[dim], grid.block[dim]);
      if (border.has_value()) return CutBlock{dim, *border, grid.block[dim]};
    }
  }
  return std::nullopt;
}

std::optional<CutBlock> find_cut_in_box(const Box& box, const ScaleGrid& grid) {
  for (int d = 0; d < grid.num_dims; ++d) {
    const auto border = border_inside(box.begin[d], box.end[d], grid.shape[d], grid.block[d]);
    if (border.has_value()) return CutBlock{d, *border, grid.block[d]};
  }
  return std::nullopt;
}

/// Blocks of a part, one behind another. Pieces that follow each other, or hold blocks that the one before holds, too,
/// become one.
DimPart dense_blocks(const DimPart& part, std::int64_t block) {
  DimPart out;
  for (const Segment& segment : part.segments) {
    const std::int64_t begin = segment.begin / block;
    const std::int64_t end = ceil_div(segment.end, block);
    Segment* last = out.segments.empty() ? nullptr : &out.segments.back();
    if (last != nullptr && last->begin <= begin && begin <= last->end) {
      last->end = std::max(last->end, end);
    } else {
      out.segments.push_back({begin, end, last == nullptr ? 0 : last->local + last->end - last->begin});
    }
  }
  if (!out.segments.empty()) {
    const Segment& last = out.segments.back();
    out.extent = last.local + last.end - last.begin;
  }
  return out;
}

/// Blocks of a part at the places in the buffer that its elements have there.
Result<DimPart> blocks_alike(const DimPart& part, std::int64_t extent, std::int64_t block) {
  DimPart out;
  for (const Segment& segment : part.segments) {
    const auto border = border_inside(segment.begin, segment.end, extent, block);
    if (border.has_value()) {
      return invalid_argument(fmt::format("is cut at {}, inside a block of {} that shares a scale", *border, block));
    }
    if (segment.local % block != 0) {
      return invalid_argument(
          fmt::format("its piece [{}, {}) begins at {} of the buffer, inside a block of {} that shares a scale",
                      segment.begin, segment.end, segment.local, block));
    }
    out.segments.push_back({segment.begin / block, ceil_div(segment.end, block), segment.local / block});
  }
  out.extent = ceil_div(part.extent, block);
  return out;
}

}  // namespace

ScaleGrid element_grid(const std::vector<std::int64_t>& shape) {
  ScaleGrid grid;
  grid.num_dims = grid.scale_dims = static_cast<int>(shape.size());
  for (int d = 0; d < grid.num_dims; ++d) {
    grid.shape[d] = at(shape, d);
    grid.block[d] = 1;
  }
  return grid;
}

std::optional<CutBlock> find_cut_block(const ModelLayout& layout, std::int64_t tensor, const ScaleGrid& grid) {
  for (const Placement& placement : layout.placements(tensor)) {
    for (int d = 0; d < grid.num_dims; ++d) {
      const DimMapPtr& map = at(placement.dims, d).map;
      if (map == nullptr) continue;
      const std::optional<CutBlock> cut = find_cut_in_map(*map, d, grid);
      if (cut.has_value()) return cut;
    }
  }
  for (const RankBlock& given : layout.rank_blocks(tensor)) {
    if (given.block.kind != BlockKind::kData) continue;
    const std::optional<CutBlock> cut = find_cut_in_box(given.block.box, grid);
    if (cut.has_value()) return cut;
  }
  return std::nullopt;
}

Result<DimMapPtr> BesidePlacer::blocks_of(const DimMapPtr& map, std::int64_t extent, std::int64_t block,
                                          Packing packing) {
  DimMapPtr& known = maps_[{map, extent, block, packing}];
  if (known != nullptr) return known;
  DimMap made;
  made.owns_padding = packing == Packing::kAlike && map->owns_padding;
  for (const DimPart& part : map->parts) {
    if (packing == Packing::kDense) {
      made.parts.push_back(dense_blocks(part, block));
      continue;
    }
    RESHARD_TRY(DimPart alike, blocks_alike(part, extent, block));
    made.parts.push_back(std::move(alike));
  }
  known = std::make_shared<const DimMap>(std::move(made));
  return known;
}

/// On the same mesh. Axes that cut a dim that scales have not got replicate them.
Result<Placement> BesidePlacer::placement_beside(const Placement& placement, const ScaleGrid& grid, Packing packing) {
  Placement out;
  out.mesh = placement.mesh;
  out.padding = placement.padding;
  for (int d = 0; d < grid.scale_dims; ++d) {
    const DimPlacement& dim = at(placement.dims, d);
    DimPlacement& made = out.dims.emplace_back();
    if (dim.map == nullptr) continue;
    Result<DimMapPtr> map = blocks_of(dim.map, grid.shape[d], grid.block[d], packing);
    if (!map.ok()) return map.take_status().with_context(fmt::format("dimension {}", d));
    made = {map.take(), dim.axes};
  }
  if (packing == Packing::kDense) return out;
  for (const int d : placement.order) {
    if (d < grid.scale_dims) out.order.push_back(d);
  }
  return out;
}

/// Of each rank that has explicit blocks, one buffer with the blocks one behind another.
Status BesidePlacer::add_blocks_beside(std::int64_t beside, const ScaleGrid& grid, std::int64_t tensor) {
  const DType dtype = at(layout_->tensors(), tensor).dtype;
  const std::string name = at(layout_->tensors(), tensor).name;
  std::map<std::int32_t, std::vector<Block>> blocks_of_rank;
  std::map<std::int32_t, std::int64_t> bytes_of_rank;
  for (const RankBlock& given : layout_->rank_blocks(beside)) {
    if (given.block.kind != BlockKind::kData || given.block.box.empty()) continue;
    Block block;
    block.tensor = tensor;
    block.box = grid.scales_of(given.block.box);
    std::int64_t& bytes = bytes_of_rank[given.rank];
    block.offset_bytes = bytes;
    std::int64_t stride = size_bytes(dtype);
    for (int d = grid.scale_dims - 1; d >= 0; --d) {
      block.strides_bytes[d] = stride;
      stride *= block.box.extent(d);
    }
    bytes += stride;
    blocks_of_rank[given.rank].push_back(block);
  }
  for (auto& [rank, blocks] : blocks_of_rank) {
    RESHARD_TRY(const std::int64_t buffer, layout_->add_rank_buffer(rank, name, bytes_of_rank[rank]));
    for (Block& block : blocks) {
      block.buffer = buffer;
      RESHARD_TRY(layout_->add_block(rank, block));
    }
  }
  return {};
}

Result<std::int64_t> BesidePlacer::add_dense(std::int64_t beside, const ScaleGrid& grid, Tensor tensor) {
  while (layout_->find_tensor(tensor.name) >= 0) tensor.name += '\'';
  const std::string name = tensor.name;
  const DType dtype = tensor.dtype;
  RESHARD_TRY(const std::int64_t added, layout_->add_tensor(std::move(tensor)));
  const std::vector<Placement> placements = layout_->placements(beside);  // a copy: placing moves them
  for (const Placement& placement : placements) {
    RESHARD_TRY(Placement made, placement_beside(placement, grid, Packing::kDense));
    made.buffer = layout_->add_buffer(name, dtype);
    RESHARD_TRY(layout_->place(added, std::move(made)));
  }
  RESHARD_TRY(add_blocks_beside(beside, grid, added));
  return added;
}

Status BesidePlacer::place_alike(std::int64_t beside, const ScaleGrid& grid, std::int64_t scales,
                                 const std::map<std::int64_t, std::int64_t>& buffer) {
  const std::vector<Placement> placements = layout_->placements(beside);
  for (const Placement& placement : placements) {
    RESHARD_TRY(Placement made, placement_beside(placement, grid, Packing::kAlike));
    made.buffer = buffer.at(placement.buffer);
    RESHARD_TRY(layout_->place(scales, std::move(made)));
  }
  return {};
}

}  // namespace reshard
