// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <tuple>

#include "src/base/status.h"
#include "src/layout/dim_map.h"

namespace reshard {

/// A map of num_parts parts, each made by `part`.
DimMapPtr make_parts(std::int64_t num_parts, const std::function<DimPart(std::int64_t index)>& part);

/// The maps that the framework layouts share. Equal arguments give the same pointer: the layers of a model are alike,
/// and the planner does its work once per distinct structure.
class DimMaps {
 public:
  /// torch.chunk: parts of ceil(extent / num_parts), the last ones short or empty.
  DimMapPtr chunk(std::int64_t extent, std::int64_t num_parts);

  /// Equal parts. Error: num_parts does not divide extent.
  Result<DimMapPtr> even(std::int64_t extent, std::int64_t num_parts) { return stacked(extent, num_parts, 0, 1); }

  /// Equal parts of tensor `index` of `count` equally large ones that lie behind one another in each part's buffer:
  /// gate and up of a fused projection. Error: num_parts does not divide extent.
  Result<DimMapPtr> stacked(std::int64_t extent, std::int64_t num_parts, std::int64_t index, std::int64_t count);

  /// Parts of `part_extent` rows each, num_parts * part_extent >= extent; what lies behind the last row is padding.
  DimMapPtr padded(std::int64_t extent, std::int64_t num_parts, std::int64_t part_extent);

  /// One part: all of the dimension, at `offset` of a buffer of `buffer_extent`.
  DimMapPtr whole_at(std::int64_t extent, std::int64_t offset, std::int64_t buffer_extent);

 private:
  enum class Kind { kChunk, kStacked, kPadded, kWholeAt };
  using Key = std::tuple<Kind, std::int64_t, std::int64_t, std::int64_t, std::int64_t>;
  std::map<Key, DimMapPtr> maps_;
};

}  // namespace reshard
