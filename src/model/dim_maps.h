// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "src/base/status.h"
#include "src/layout/dim_map.h"

namespace reshard {

/// A map of num_parts parts, each made by `part`.
DimMapPtr make_parts(std::int64_t num_parts, const std::function<DimPart(std::int64_t index)>& part);

/// One of the parameters that are fused along a dimension: `count` entries of `each` rows.
struct FusedMember {
  std::int64_t count = 0;
  std::int64_t each = 1;
  bool repeats = false;     ///< where there are more units than entries, several units hold the same entry
  std::size_t tensor = 0;   ///< whose rows they are; a tensor may have several members
  std::int64_t begin = 0;   ///< of entry 0 in the tensor
  std::int64_t stride = 0;  ///< from run to run; 0: `each`, all entries lie densely
  std::int64_t run = 1;     ///< entries that lie together
  std::int64_t step = 1;    ///< rows 0, step, 2 step, ... of an entry come first, then 1, step + 1, ...; divides `each`
};

/// Parameters that a framework holds as one: each of `units` units holds its share of every member in turn, and the
/// whole is cut evenly into parts, wherever that falls. With
///   units = parts        [gate | up] and [q | k | v] of every rank, k and v heads repeated over more ranks than heads
///   units = query groups Megatron's linear_qkv: q heads, k head, v head of a group; cuts may fall inside a head
///   units = width / s    gate and up interleaved by blocks of s rows
/// A parameter alone is a fused one with one member and as many units as parts.
struct Fusing {
  std::vector<FusedMember> members;
  std::int64_t num_units = 1;
  std::int64_t num_parts = 1;
  bool is_chunked = false;  ///< parts that do not divide the whole are those of torch.chunk
};

/// The maps that the framework layouts share. Equal arguments give the same pointer: the layers of a model are alike,
/// and the planner does its work once per distinct structure.
class DimMaps {
 public:
  /// torch.chunk: parts of ceil(extent / size), the last ones short or empty; with several sizes each part is cut
  /// again, the outermost size first. Coordinates are row-major over the sizes.
  Result<DimMapPtr> chunk(std::int64_t extent, const std::vector<std::int64_t>& sizes);

  /// Parts of `part_extent` rows each, num_parts * part_extent >= extent; what lies behind the last row is padding.
  DimMapPtr padded(std::int64_t extent, std::int64_t num_parts, std::int64_t part_extent);

  /// Of every part of `map` the index that lies at `local`, alone in a buffer; nothing of parts that end before it.
  DimMapPtr one_index(const DimMapPtr& map, std::int64_t local);

  /// What the parts hold of a tensor's members, and where.
  /// Errors: units that divide no member evenly, parts that do not divide the rows of all members together.
  Result<DimMapPtr> fused(const Fusing& fusing, std::size_t tensor);

 private:
  enum class Kind { kChunk, kPadded, kFused };
  std::map<std::vector<std::int64_t>, DimMapPtr> maps_;                     // by kind and arguments
  std::map<std::pair<DimMapPtr, std::int64_t>, DimMapPtr> one_index_maps_;  // by arguments
};

}  // namespace reshard
