// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The few ways in which frameworks cut a dimension. A map is found again by what it was made from, so that layers that
// are cut alike have the same map, by pointer, and whoever works once for each distinct map (the planner,
// serialisation) works once for all of them.
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

/// Rows of a member that one unit holds; 0 where the units do not share it out evenly.
std::int64_t rows_per_unit(const FusedMember& member, std::int64_t num_units) {
  if (member.count % num_units == 0) return member.count / num_units * member.each;
  return member.repeats && num_units % member.count == 0 ? member.each : 0;
}

/// Where a unit's rows of the member begin in the member itself.
std::int64_t first_row(const FusedMember& member, std::int64_t num_units, std::int64_t unit) {
  if (member.count >= num_units) return member.count / num_units * member.each * unit;
  return unit / (num_units / member.count) * member.each;
}

}  // namespace

DimMapPtr make_parts(std::int64_t num_parts, const std::function<DimPart(std::int64_t index)>& part) {
  auto map = std::make_shared<DimMap>();
  map->parts.reserve(static_cast<std::size_t>(num_parts));
  for (std::int64_t index = 0; index < num_parts; ++index) map->parts.push_back(part(index));
  return map;
}

DimMapPtr DimMaps::chunk(std::int64_t extent, std::int64_t num_parts) {
  DimMapPtr& map = maps_[{static_cast<int>(Kind::kChunk), extent, num_parts}];
  if (map != nullptr) return map;
  const std::int64_t size = ceil_div(extent, num_parts);
  map = make_parts(num_parts, [&](std::int64_t index) {
    // 5 rows over 4 ranks are 2, 2, 1, 0: the last begins and ends at the extent.
    const std::int64_t begin = std::min(extent, index * size), end = std::min(extent, begin + size);
    return one_segment(begin, end, 0, end - begin);
  });
  return map;
}

DimMapPtr DimMaps::padded(std::int64_t extent, std::int64_t num_parts, std::int64_t part_extent) {
  DimMapPtr& map = maps_[{static_cast<int>(Kind::kPadded), extent, num_parts, part_extent}];
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

Result<DimMapPtr> DimMaps::fused(const Fusing& fusing, std::size_t index) {
  std::vector<std::int64_t> key = {static_cast<int>(Kind::kFused), static_cast<std::int64_t>(index), fusing.num_units,
                                   fusing.num_parts};
  std::int64_t unit_rows = 0, offset = 0;  // of a unit: all rows, and those before the member's
  for (std::size_t m = 0; m < fusing.members.size(); ++m) {
    const FusedMember& member = fusing.members[m];
    const std::int64_t rows = rows_per_unit(member, fusing.num_units);
    if (rows == 0) {
      return invalid_argument(
          fmt::format("{} rows or columns do not divide over {} ranks", member.count, fusing.num_units));
    }
    if (m < index) offset += rows;
    unit_rows += rows;
    key.insert(key.end(), {member.count, member.each, member.repeats ? 1 : 0});
  }
  if (unit_rows * fusing.num_units % fusing.num_parts != 0) {
    return invalid_argument(
        fmt::format("{} rows in all do not divide over {} ranks", unit_rows * fusing.num_units, fusing.num_parts));
  }
  DimMapPtr& map = maps_[std::move(key)];
  if (map != nullptr) return map;
  const FusedMember& member = fusing.members[index];
  const std::int64_t held = rows_per_unit(member, fusing.num_units);
  const std::int64_t part_rows = unit_rows * fusing.num_units / fusing.num_parts;
  map = make_parts(fusing.num_parts, [&](std::int64_t p) {
    DimPart part;
    part.extent = part_rows;
    const std::int64_t begin = p * part_rows, end = begin + part_rows;
    // From the first unit that the part's rows touch. In each, the member's rows are one run; what of it lies within
    // [begin, end) is a segment, whose local index counts the fused rows of all members.
    for (std::int64_t unit = begin / unit_rows; unit * unit_rows < end; ++unit) {
      const std::int64_t fused = unit * unit_rows + offset;
      const std::int64_t from = std::max(begin, fused), to = std::min(end, fused + held);
      const std::int64_t shift = first_row(member, fusing.num_units, unit) - fused;
      if (from < to) part.segments.push_back({from + shift, to + shift, from - begin});
    }
    return part;
  });
  return map;
}

}  // namespace reshard
