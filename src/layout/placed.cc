// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// From a placement to the blocks of one rank. Along each dim a rank holds runs: intervals of the tensor's indices, each
// at some place of the local array. Blocks are the products of the runs of all dims, so that a tensor that is cut in
// two dims and padded in one is a handful of blocks, whatever its size. What the runs do not fill is padding, and that
// is a union of products too (append_padding).
#include "src/layout/placed.h"

#include <fmt/format.h>

#include <algorithm>

namespace reshard {
namespace {

/// Segments must lie in the tensor and in the local extent, one behind another: then no local index is taken twice.
Status check_part(const DimPart& part, std::int64_t num_indices) {
  std::int64_t free_from = 0;
  if (part.extent < 0) return invalid_argument(fmt::format("the local extent is {}", part.extent));
  for (const Segment& segment : part.segments) {
    if (segment.begin < 0 || segment.end <= segment.begin || segment.end > num_indices || segment.local < 0 ||
        segment.local > part.extent - (segment.end - segment.begin)) {
      return invalid_argument(fmt::format("segment [{}, {}) at {} does not fit {} indices and {} local ones",
                                          segment.begin, segment.end, segment.local, num_indices, part.extent));
    }
    if (segment.local < free_from) {
      return invalid_argument(fmt::format("segment [{}, {}) at {} begins before the one in front of it ends, at {}",
                                          segment.begin, segment.end, segment.local, free_from));
    }
    free_from = segment.local + segment.end - segment.begin;
  }
  return {};
}

/// The largest extent of the map's parts; an error for parts that do not fit so many indices.
Result<std::int64_t> check_map(const DimMapPtr& map, std::int64_t num_indices, int dim, CheckedMaps* maps) {
  const auto found = maps->find({map, num_indices});
  if (found != maps->end()) return found->second;
  std::int64_t extent = 0;
  for (std::size_t p = 0; p < map->parts.size(); ++p) {
    Status checked = check_part(map->parts[p], num_indices);
    if (!checked.ok()) return std::move(checked).with_context(fmt::format("dim {}, coordinate {}", dim, p));
    extent = std::max(extent, map->parts[p].extent);
  }
  maps->emplace(std::pair{map, num_indices}, extent);
  return extent;
}

Status check_dim(const Tensor& tensor, const Placement& placement, int dim, std::vector<bool>* axis_used,
                 CheckedMaps* maps) {
  const DimPlacement& placed = at(placement.dims, dim);
  if (placed.map == nullptr) {
    if (placed.axes.empty()) return {};
    return invalid_argument(fmt::format("dim {} names mesh axes but has no map", dim));
  }
  std::int64_t coordinates = 1;
  for (const int axis : placed.axes) {
    if (axis < 0 || axis >= placement.mesh->num_axes()) {
      return invalid_argument(
          fmt::format("dim {} is sharded by axis {}; the mesh has {}", dim, axis, placement.mesh->num_axes()));
    }
    if (at(*axis_used, axis)) return invalid_argument(fmt::format("mesh axis {} shards more than one dim", axis));
    // An axis that cut two dims would hand out a diagonal of blocks only, and nobody would have the others.
    (*axis_used)[static_cast<std::size_t>(axis)] = true;
    coordinates *= at(placement.mesh->axes(), axis).size;
  }
  if (coordinates != static_cast<std::int64_t>(placed.map->parts.size())) {
    return invalid_argument(
        fmt::format("dim {} has {} parts for {} coordinates", dim, placed.map->parts.size(), coordinates));
  }
  return check_map(placed.map, at(tensor.shape, dim), dim, maps).status();
}

/// Sizes and offsets in bytes that the code below computes freely stay within 63 bits. A dim of 0 counts as 1, so that
/// a large one behind it is seen. @pre all maps are among the checked ones
Status check_reach(const Tensor& tensor, const Placement& placement, const CheckedMaps& maps) {
  std::int64_t bytes = size_bytes(tensor.dtype);
  for (std::size_t d = 0; d < placement.dims.size(); ++d) {
    std::int64_t extent = std::max<std::int64_t>(1, tensor.shape[d]);
    const DimMapPtr& map = placement.dims[d].map;
    if (map != nullptr) extent = std::max(extent, maps.at({map, tensor.shape[d]}));
    if (extent > kMostCounted / bytes) {
      return invalid_argument(fmt::format("{} indices of dim {} make the local shape more than 2^62 bytes", extent, d));
    }
    bytes *= extent;
  }
  if (placement.offset_bytes >= 0 && placement.offset_bytes <= kMostCounted - bytes) return {};
  return invalid_argument(
      fmt::format("the offset {} with up to {} bytes behind it is outside 0 to 2^62", placement.offset_bytes, bytes));
}

/// Local index intervals of a part, as blocks see them: `place` is the start in the local tensor, and segment.local
/// that in the array in the buffer. The two differ where the array is shared with other tensors.
struct Run {
  Segment segment;
  std::int64_t place = 0;
};

/// Where segments leave gaps that belong to other tensors, the local tensor closes them: its indices count this
/// tensor's elements only, and `place` differs from the index in the buffer. Own padding counts, so there the two
/// agree.
std::vector<Run> runs_of(const DimPart& part, bool owns_padding) {
  std::vector<Run> runs;
  std::int64_t place = 0;
  for (const Segment& segment : part.segments) {
    runs.push_back({segment, owns_padding ? segment.local : place});
    place += segment.end - segment.begin;
  }
  return runs;
}

bool owns_padding(const Placement& placement, int dim) {
  const DimMapPtr& map = at(placement.dims, dim).map;
  return map != nullptr && map->owns_padding;
}

Box interval(std::int64_t begin, std::int64_t end) {
  Box box;
  box.num_dims = 1;
  box.begin[0] = begin;
  box.end[0] = end;
  return box;
}

/// Padding as runs: there, local and buffer index agree and the box of the block begins at 0.
std::vector<Run> padding_runs(const std::vector<Box>& intervals) {
  std::vector<Run> runs;
  for (const Box& open : intervals) runs.push_back({{0, open.extent(0), open.begin[0]}, open.begin[0]});
  return runs;
}

/// One block per combination of runs, one of each dimension.
void append_product(const std::vector<std::vector<Run>>& runs, const Block& prototype, std::vector<Block>* out) {
  std::int64_t num_blocks = 1;
  for (const auto& of_dim : runs) num_blocks *= static_cast<std::int64_t>(of_dim.size());
  for (std::int64_t i = 0; i < num_blocks; ++i) {
    Block block = prototype;
    std::int64_t rest = i;  // i counts the combinations as a number whose digit of dim d has runs[d].size() values
    for (int d = block.box.num_dims - 1; d >= 0; --d) {
      const auto count = static_cast<std::int64_t>(at(runs, d).size());
      const Run& run = at(at(runs, d), rest % count);
      rest /= count;
      block.box.begin[d] = run.segment.begin;
      block.box.end[d] = run.segment.end;
      block.local_begin[d] = run.place;
      block.offset_bytes += run.segment.local * block.strides_bytes[d];
    }
    out->push_back(block);
  }
}

/// What the data blocks leave of the local tensor. The complement of a product is, dimension by dimension,
/// filled x ... x filled x gap x whole x ... x whole. A dimension that does not own its padding has no gaps, and its
/// runs stay apart: other tensors may lie between them.
void append_padding(const Placement& placement, const Dims& local_shape, const std::vector<std::vector<Run>>& data_runs,
                    const Block& prototype, std::vector<Block>* out) {
  std::vector<std::vector<Run>> gaps(data_runs.size());
  std::vector<std::vector<Run>> filled = data_runs;
  std::vector<std::vector<Run>> runs = filled;  // of the product: filled before dimension d, whole after it
  for (int d = 0; d < prototype.box.num_dims; ++d) {
    if (!owns_padding(placement, d)) {
      for (Run& run : at(filled, d)) run.segment = {0, run.segment.end - run.segment.begin, run.segment.local};
      at(runs, d) = at(filled, d);
      continue;
    }
    const Box line = interval(0, local_shape[d]);
    std::vector<Box> taken;
    for (const Run& run : at(data_runs, d)) {
      taken.push_back(interval(run.place, run.place + run.segment.end - run.segment.begin));
    }
    const std::vector<Box> open = complement(line, taken);
    at(gaps, d) = padding_runs(open);
    at(filled, d) = padding_runs(complement(line, open));
    at(runs, d) = padding_runs(complement(line, {}));
  }
  Block padding = prototype;
  padding.kind = placement.padding == Padding::kZero ? BlockKind::kZero : BlockKind::kUntouched;
  for (int d = 0; d < prototype.box.num_dims; ++d) {
    // The term of dimension d: filled before it, its gaps, whole behind it. Terms are disjoint, as each element of the
    // padding is told by the first dim in which it lies in a gap.
    at(runs, d).swap(at(gaps, d));
    append_product(runs, padding, out);
    at(runs, d) = at(filled, d);
  }
}

}  // namespace

Status check_placement(const Tensor& tensor, const Placement& placement, std::int32_t num_ranks, CheckedMaps* maps) {
  if (placement.mesh == nullptr) return invalid_argument("a placement has no mesh");
  if (placement.dims.size() != tensor.shape.size()) {
    return invalid_argument(
        fmt::format("the placement has {} dims where the tensor has {}", placement.dims.size(), tensor.shape.size()));
  }
  if (placement.mesh->highest_rank() >= num_ranks) {
    return invalid_argument(
        fmt::format("the mesh has rank {}; ranks are 0 to {}", placement.mesh->highest_rank(), num_ranks - 1));
  }
  if (!placement.order.empty()) {
    std::vector<int> sorted = placement.order;
    std::sort(sorted.begin(), sorted.end());
    for (std::size_t d = 0; d < sorted.size(); ++d) {
      if (sorted.size() != tensor.shape.size() || sorted[d] != static_cast<int>(d)) {
        return invalid_argument(fmt::format("order [{}] is not a permutation of the {} dims",
                                            fmt::join(placement.order, ", "), tensor.shape.size()));
      }
    }
  }
  std::vector<bool> axis_used(static_cast<std::size_t>(placement.mesh->num_axes()));
  for (int d = 0; d < static_cast<int>(placement.dims.size()); ++d) {
    RESHARD_TRY(check_dim(tensor, placement, d, &axis_used, maps));
  }
  return check_reach(tensor, placement, *maps);
}

std::int64_t part_index(const Mesh& mesh, const std::vector<int>& axes, std::int64_t index) {
  std::int64_t part = 0;
  // The coordinates on the dim's axes as one number, the last axis fastest: how DimMap orders its parts.
  for (const int axis : axes) part = part * at(mesh.axes(), axis).size + mesh.coordinate(index, axis);
  return part;
}

/// A dim without a map is one segment, so that whoever reads parts need not know of such dims. One of extent 0 has
/// none: segments are never empty.
DimPart part_of(const Tensor& tensor, const Placement& placement, std::int64_t index, int dim) {
  const DimPlacement& placed = at(placement.dims, dim);
  if (placed.map != nullptr) return at(placed.map->parts, part_index(*placement.mesh, placed.axes, index));
  DimPart whole;
  whole.extent = at(tensor.shape, dim);
  if (whole.extent > 0) whole.segments.push_back({0, whole.extent, 0});
  return whole;
}

/// The array in the buffer, with what belongs to other tensors; placed_local_shape() is without.
Dims buffer_extents(const Tensor& tensor, const Placement& placement, std::int64_t index) {
  Dims extents;
  for (int d = 0; d < static_cast<int>(placement.dims.size()); ++d) {
    const DimPlacement& placed = at(placement.dims, d);
    extents[d] = placed.map == nullptr ? at(tensor.shape, d)
                                       : at(placed.map->parts, part_index(*placement.mesh, placed.axes, index)).extent;
  }
  return extents;
}

ByteSpan byte_span(const Block& block, std::int64_t element_bytes) {
  ByteSpan span{block.offset_bytes, block.offset_bytes + element_bytes};
  for (int d = 0; d < block.box.num_dims; ++d) {
    const std::int64_t reach = (block.box.extent(d) - 1) * block.strides_bytes[d];
    // The extremes lie at the corners: a negative stride moves the lowest byte, a positive one the highest.
    (reach < 0 ? span.begin : span.end) += reach;
  }
  return span;
}

/// The array is dense, so that its extents give its size: segments need not be looked at.
ByteSpan placed_span(const Tensor& tensor, const Placement& placement, std::int64_t index) {
  const Dims extents = buffer_extents(tensor, placement, index);
  std::int64_t bytes = size_bytes(tensor.dtype);
  for (int d = 0; d < static_cast<int>(placement.dims.size()); ++d) bytes *= extents[d];
  if (bytes == 0) return {};
  return {placement.offset_bytes, placement.offset_bytes + bytes};
}

/// In a dim that does not own its padding only the segments count, as the local tensor is what the framework would show
/// under this name.
Dims placed_local_shape(const Tensor& tensor, const Placement& placement, std::int64_t index) {
  Dims shape;
  for (int d = 0; d < static_cast<int>(placement.dims.size()); ++d) {
    const DimPart part = part_of(tensor, placement, index, d);
    shape[d] = owns_padding(placement, d) ? part.extent : 0;
    if (owns_padding(placement, d)) continue;
    for (const Segment& segment : part.segments) shape[d] += segment.end - segment.begin;
  }
  return shape;
}

/// One prototype has what all blocks of the rank share; each block adds its box and the offset of its runs.
void append_blocks(const Tensor& tensor, std::int64_t tensor_index, const Placement& placement, std::int64_t index,
                   std::int64_t element_bytes, std::vector<Block>* out) {
  const int num_dims = static_cast<int>(tensor.shape.size());
  const Dims extents = buffer_extents(tensor, placement, index);
  // The array is dense: each dim's stride is the size of all that lies faster in the memory order.
  Dims strides_bytes;
  std::int64_t stride = element_bytes;
  for (int i = num_dims - 1; i >= 0; --i) {
    const int d = placement.order.empty() ? i : at(placement.order, i);
    strides_bytes[d] = stride;
    stride *= extents[d];
  }
  std::vector<std::vector<Run>> runs;
  for (int d = 0; d < num_dims; ++d) {
    runs.push_back(runs_of(part_of(tensor, placement, index, d), owns_padding(placement, d)));
  }
  Block prototype;
  prototype.tensor = tensor_index;
  prototype.buffer = placement.buffer;
  prototype.box.num_dims = num_dims;
  prototype.offset_bytes = placement.offset_bytes;
  prototype.strides_bytes = strides_bytes;
  append_product(runs, prototype, out);
  append_padding(placement, placed_local_shape(tensor, placement, index), runs, prototype, out);
}

}  // namespace reshard
