// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The few ways in which frameworks cut a dimension. A map is found again by what it was made from: its kind, the
// dimension's extent, and up to three numbers more, 0 where a kind has fewer. Hence layers that are cut alike have the
// same map, by pointer, and whoever works once for each distinct map (the planner, serialisation) works once for all of
// them.
#include "src/model/dim_maps.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/arithmetic.h"

namespace reshard {
namespace {

/// The part that holds [begin, end) of a dimension at `local` of a buffer of `extent`; no segment for an empty range.
DimPart one_segment(std::int64_t begin, std::int64_t end, std::int64_t local, std::int64_t extent) {
  DimPart part;
  if (begin < end) part.segments.push_back({begin, end, local});
  part.extent = extent;
  return part;
}

}  // namespace

DimMapPtr make_parts(std::int64_t num_parts, const std::function<DimPart(std::int64_t index)>& part) {
  auto map = std::make_shared<DimMap>();
  map->parts.reserve(static_cast<std::size_t>(num_parts));
  for (std::int64_t index = 0; index < num_parts; ++index) map->parts.push_back(part(index));
  return map;
}

DimMapPtr DimMaps::chunk(std::int64_t extent, std::int64_t num_parts) {
  DimMapPtr& map = maps_[{Kind::kChunk, extent, num_parts, 0, 0}];
  if (map != nullptr) return map;
  const std::int64_t size = ceil_div(extent, num_parts);
  map = make_parts(num_parts, [&](std::int64_t index) {
    // 5 rows over 4 ranks are 2, 2, 1, 0: the last begins and ends at the extent.
    const std::int64_t begin = std::min(extent, index * size), end = std::min(extent, begin + size);
    return one_segment(begin, end, 0, end - begin);
  });
  return map;
}

Result<DimMapPtr> DimMaps::stacked(std::int64_t extent, std::int64_t num_parts, std::int64_t index,
                                   std::int64_t count) {
  if (extent % num_parts != 0) {
    return invalid_argument(fmt::format("{} rows or columns do not divide over {} ranks", extent, num_parts));
  }
  DimMapPtr& map = maps_[{Kind::kStacked, extent, num_parts, index, count}];
  if (map != nullptr) return map;
  const std::int64_t size = extent / num_parts;
  map = make_parts(num_parts, [&](std::int64_t part) {
    // Behind the same part of the `index` tensors before it, in a buffer for that part of all `count`.
    return one_segment(part * size, (part + 1) * size, index * size, count * size);
  });
  return map;
}

DimMapPtr DimMaps::padded(std::int64_t extent, std::int64_t num_parts, std::int64_t part_extent) {
  DimMapPtr& map = maps_[{Kind::kPadded, extent, num_parts, part_extent, 0}];
  if (map != nullptr) return map;
  auto padded = std::make_shared<DimMap>(*make_parts(num_parts, [&](std::int64_t part) {
    return one_segment(std::min(extent, part * part_extent), std::min(extent, (part + 1) * part_extent), 0,
                       part_extent);
  }));
  // The rows behind the last one belong to this tensor: a run fills them with zeros. In the other maps, what is not
  // covered belongs to the tensors beside it in the buffer.
  padded->owns_padding = true;
  map = padded;
  return map;
}

DimMapPtr DimMaps::whole_at(std::int64_t extent, std::int64_t offset, std::int64_t buffer_extent) {
  DimMapPtr& map = maps_[{Kind::kWholeAt, extent, offset, buffer_extent, 0}];
  if (map == nullptr) {
    map = make_parts(1, [&](std::int64_t) { return one_segment(0, extent, offset, buffer_extent); });
  }
  return map;
}

}  // namespace reshard
