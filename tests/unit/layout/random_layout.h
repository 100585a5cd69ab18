// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

// Random tensors on random meshes, with what every rank must hold of them, index by index.

#include <map>
#include <memory>

#include "tests/unit/layout/oracle.h"

namespace reshard::oracle {

/// A placement and, per dimension and coordinate tuple of its axes (row-major), the global index at each local index.
struct RandomPlacement {
  Placement placement;
  std::vector<std::vector<Indices>> lists;
};

/// Memory order of n dims: any permutation, or the empty list that stands for row-major.
inline std::vector<int> random_order(std::int64_t num_dims) {
  std::vector<int> order;
  if (random(0, 1) == 0) return order;
  for (int d = 0; d < num_dims; ++d) order.insert(order.begin() + random(0, d), d);
  return order;
}

/// Gives one dimension its own padding: all local extents become equal, the lists end in kPadding.
inline void pad_dim(DimMap* map, std::vector<Indices>* lists) {
  std::int64_t extent = 0;
  for (const Indices& list : *lists) extent = std::max(extent, size_of(list));
  extent += random(0, 2);
  map->owns_padding = true;
  for (DimPart& part : map->parts) part.extent = extent;
  for (Indices& list : *lists) list.resize(static_cast<std::size_t>(extent), kPadding);
}

/// Any rules, any nesting, any order, some dims padded. No divisibility, empty shards, repetition and omission
/// included.
inline RandomPlacement random_placement(const Indices& shape, std::int32_t num_ranks) {
  RandomPlacement result;
  Placement& placement = result.placement;
  placement.mesh = random_mesh(num_ranks);
  placement.dims.resize(shape.size());
  placement.order = random_order(size_of(shape));
  placement.padding = *rc::gen::element(Padding::kZero, Padding::kUntouched);
  for (int axis = 0; axis < placement.mesh->num_axes(); ++axis) {
    const std::int64_t dim = random(-1, size_of(shape) - 1);  // -1: the axis replicates
    if (dim >= 0) {
      std::vector<int>& axes = at(placement.dims, dim).axes;
      axes.insert(random(0, 1) == 0 ? axes.begin() : axes.end(), axis);
    }
  }
  for (std::size_t d = 0; d < shape.size(); ++d) {
    Indices axis_sizes;
    for (const int axis : placement.dims[d].axes) axis_sizes.push_back(at(placement.mesh->axes(), axis).size);
    RandomDim dim = random_dim(shape[d], axis_sizes);
    result.lists.push_back(dim.lists);
    const bool is_padded = random(0, 3) == 0;
    if (axis_sizes.empty() && !is_padded) continue;
    Result<DimMap> map = make_dim_map(shape[d], dim.splits);
    RC_ASSERT(map.ok());
    if (is_padded) pad_dim(&*map, &result.lists.back());
    placement.dims[d].map = std::make_shared<const DimMap>(map.take());
  }
  return result;
}

/// Per dimension, the global index that the rank at position `index` of the mesh has at each local index.
inline std::vector<Indices> local_lists(const RandomPlacement& random, std::int64_t index) {
  std::vector<Indices> lists;
  for (std::size_t d = 0; d < random.lists.size(); ++d) {
    std::int64_t coordinate = 0;
    for (const int axis : random.placement.dims[d].axes) {
      coordinate =
          coordinate * at(random.placement.mesh->axes(), axis).size + random.placement.mesh->coordinate(index, axis);
    }
    lists.push_back(at(random.lists[d], coordinate));
  }
  return lists;
}

inline Indices shape_of(const std::vector<Indices>& lists) {
  Indices shape;
  for (const Indices& list : lists) shape.push_back(size_of(list));
  return shape;
}

}  // namespace reshard::oracle
