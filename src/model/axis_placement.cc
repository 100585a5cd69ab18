// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// From the public way to place a tensor, a rule for each mesh axis as DTensor has it, to the layout's own, a map for
// each dim. Several axes may cut one dim: nested, the outermost first, unless inner_first says otherwise.
#include "src/model/axis_placement.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "src/base/at.h"

namespace reshard {
namespace {

/// Most pieces of a tensor, over all ranks: the product of the dims' segments. Each becomes a block of 170 bytes.
constexpr std::int64_t kMaxPieces = std::int64_t{1} << 22;

/// The split of one axis, its part count filled in. Lists that are too short or too long are caught here, where the
/// axis still has a name; whether positions fit the list they split is known only to make_dim_map.
Result<Split> split_of_axis(const MeshAxis& axis, const Split& split) {
  const auto size = static_cast<std::size_t>(axis.size);
  if (split.rule == Rule::kCuts && split.cuts.size() != size + 1) {
    return invalid_argument(fmt::format("cuts have {} entries for axis \"{}\" of size {}; give {}", split.cuts.size(),
                                        axis.name, size, size + 1));
  }
  if (split.rule == Rule::kTable && split.table.size() != size) {
    return invalid_argument(fmt::format("table has {} rows for axis \"{}\" of size {}; give one per coordinate",
                                        split.table.size(), axis.name, size));
  }
  Split result = split;
  result.num_parts = axis.size;
  return result;
}

/// The mesh axes that split `dim`, the outermost first.
std::vector<int> axes_of_dim(const AxisPlacement& placement, std::int64_t dim) {
  std::vector<int> axes;
  for (int axis = 0; axis < placement.mesh->num_axes(); ++axis) {
    if (at(placement.axes, axis).dim == dim) axes.push_back(axis);
  }
  if (placement.inner_first) std::reverse(axes.begin(), axes.end());
  return axes;
}

Status pad(DimMap* map, std::int64_t padded_extent) {
  for (DimPart& part : map->parts) {
    if (part.extent > padded_extent) {
      return invalid_argument(
          fmt::format("pad_to is {}, but a rank holds {} indices; give as many or more", padded_extent, part.extent));
    }
    part.extent = padded_extent;
  }
  map->owns_padding = true;
  return {};
}

Result<DimPlacement> place_dim(const AxisPlacement& placement, std::int64_t dim, std::int64_t extent) {
  DimPlacement result;
  result.axes = axes_of_dim(placement, dim);
  const std::int64_t padded = placement.pad_to ? at(*placement.pad_to, dim) : extent;
  if (result.axes.empty() && padded == extent) return result;
  std::vector<Split> splits;
  for (const int axis : result.axes) {
    RESHARD_TRY(Split split, split_of_axis(at(placement.mesh->axes(), axis), at(placement.axes, axis).split));
    splits.push_back(std::move(split));
  }
  RESHARD_TRY(DimMap map, make_dim_map(extent, splits));
  if (placement.pad_to) RESHARD_TRY(pad(&map, padded));
  result.map = std::make_shared<const DimMap>(std::move(map));
  return result;
}

/// Counts the pieces that the dims so far make together, and refuses products that nobody could plan. Asked dimension
/// by dimension, so that of fine cuts in several dims only the first is ever made.
class PieceCount {
 public:
  Status add(const DimPlacement& placed, std::size_t dim) {
    std::int64_t segments = 0;
    if (placed.map) {
      for (const DimPart& part : placed.map->parts) segments += static_cast<std::int64_t>(part.segments.size());
    }
    segments = std::max<std::int64_t>(1, segments);
    if (segments > kMaxPieces / pieces_) {
      return invalid_argument(
          fmt::format("{} segments of dim {} cut the tensor into more than {} pieces; use larger blocks", segments, dim,
                      kMaxPieces));
    }
    pieces_ *= segments;
    return {};
  }

 private:
  std::int64_t pieces_ = 1;
};

Status check_axes(const AxisPlacement& placement, std::size_t num_dims) {
  const auto num_axes = static_cast<std::size_t>(placement.mesh->num_axes());
  if (placement.axes.size() != num_axes) {
    return invalid_argument(
        fmt::format("{} placements for a mesh of {} axes; give one per axis", placement.axes.size(), num_axes));
  }
  for (std::size_t axis = 0; axis < num_axes; ++axis) {
    const std::optional<std::int64_t> dim = placement.axes[axis].dim;
    if (dim && (*dim < 0 || *dim >= static_cast<std::int64_t>(num_dims))) {
      return invalid_argument(fmt::format("axis \"{}\" shards dim {} of a tensor of {} dims",
                                          placement.mesh->axes()[axis].name, *dim, num_dims));
    }
  }
  return {};
}

Status check_order_and_padding(const AxisPlacement& placement, std::size_t num_dims) {
  if (placement.order) {
    std::vector<std::int64_t> dims(num_dims);
    std::iota(dims.begin(), dims.end(), 0);
    if (!std::is_permutation(placement.order->begin(), placement.order->end(), dims.begin(), dims.end())) {
      return invalid_argument(fmt::format("order [{}] is no permutation of the dims [{}]",
                                          fmt::join(*placement.order, ", "), fmt::join(dims, ", ")));
    }
  }
  if (placement.pad_to && placement.pad_to->size() != num_dims) {
    return invalid_argument(fmt::format("pad_to [{}] has {} extents for a tensor of {} dims; give one per dim",
                                        fmt::join(*placement.pad_to, ", "), placement.pad_to->size(), num_dims));
  }
  return {};
}

}  // namespace

Result<Placement> make_placement(const Tensor& tensor, const AxisPlacement& axes) {
  RESHARD_TRY(check_axes(axes, tensor.shape.size()));
  RESHARD_TRY(check_order_and_padding(axes, tensor.shape.size()));
  Placement result;
  result.mesh = axes.mesh;
  PieceCount pieces;
  for (std::size_t dim = 0; dim < tensor.shape.size(); ++dim) {
    Result<DimPlacement> placed = place_dim(axes, static_cast<std::int64_t>(dim), tensor.shape[dim]);
    if (!placed.ok()) return placed.take_status().with_context(fmt::format("dim {}", dim));
    RESHARD_TRY(pieces.add(*placed, dim));
    result.dims.push_back(placed.take());
  }
  if (axes.order) result.order.assign(axes.order->begin(), axes.order->end());
  return result;
}

}  // namespace reshard
