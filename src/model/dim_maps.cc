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

/// Adds what [begin, end) of the fused rows holds of a unit's share of a member; that share begins at fused row `at`.
void add_share(const FusedMember& member, std::int64_t num_units, std::int64_t unit, std::int64_t at,
               std::int64_t begin, std::int64_t end, DimPart* part) {
  const bool is_dense = member.step == 1 && (member.stride == 0 || member.stride == member.each * member.run);
  const std::int64_t run = is_dense ? member.count : member.run;
  const std::int64_t stride = member.stride == 0 ? member.each * run : member.stride;
  const std::int64_t num_entries = std::max<std::int64_t>(1, member.count / num_units);
  const std::int64_t first = member.count >= num_units ? unit * num_entries : unit / (num_units / member.count);
  const auto add_rows = [&](std::int64_t row, std::int64_t count) {
    const std::int64_t from = std::max(begin, at), to = std::min(end, at + count);
    // Local indices count the fused rows of all members.
    if (from < to) part->segments.push_back({from - at + row, to - at + row, from - begin});
    at += count;
  };
  for (std::int64_t entry = first, behind = first + num_entries; entry < behind;) {
    const std::int64_t together = member.step > 1 ? 1 : std::min(run - entry % run, behind - entry);
    const std::int64_t row = member.begin + entry / run * stride + entry % run * member.each;
    if (member.step == 1) add_rows(row, together * member.each);
    for (std::int64_t i = 0, deal = member.each / member.step; member.step > 1 && i < member.each; ++i) {
      add_rows(row + i % deal * member.step + i / deal, 1);
    }
    entry += together;
  }
}

}  // namespace

DimMapPtr make_parts(std::int64_t num_parts, const std::function<DimPart(std::int64_t index)>& part) {
  auto map = std::make_shared<DimMap>();
  map->parts.reserve(static_cast<std::size_t>(num_parts));
  for (std::int64_t index = 0; index < num_parts; ++index) map->parts.push_back(part(index));
  return map;
}

Result<DimMapPtr> DimMaps::chunk(std::int64_t extent, const std::vector<std::int64_t>& sizes) {
  std::vector<std::int64_t> key = {static_cast<int>(Kind::kChunk), extent};
  key.insert(key.end(), sizes.begin(), sizes.end());
  DimMapPtr& map = maps_[std::move(key)];
  if (map != nullptr) return map;
  std::vector<Split> splits;
  for (const std::int64_t size : sizes) splits.push_back({Rule::kChunk, size, 1, {}, {}});
  RESHARD_TRY(DimMap made, make_dim_map(extent, splits));
  map = std::make_shared<const DimMap>(std::move(made));
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

DimMapPtr DimMaps::one_index(const DimMapPtr& map, std::int64_t local) {
  DimMapPtr& made = one_index_maps_[{map, local}];
  if (made != nullptr) return made;
  made = make_parts(static_cast<std::int64_t>(map->parts.size()), [&](std::int64_t p) {
    for (const Segment& segment : map->parts[static_cast<std::size_t>(p)].segments) {
      const std::int64_t index = segment.begin + local - segment.local;
      if (index >= segment.begin && index < segment.end) return one_segment(index, index + 1, 0, 1);
    }
    return DimPart{};
  });
  return made;
}

Result<DimMapPtr> DimMaps::fused(const Fusing& fusing, std::size_t tensor) {
  std::vector<std::int64_t> key = {static_cast<int>(Kind::kFused), static_cast<std::int64_t>(tensor), fusing.num_units,
                                   fusing.num_parts, fusing.is_chunked ? 1 : 0};
  std::int64_t unit_rows = 0;
  for (const FusedMember& member : fusing.members) {
    const std::int64_t rows = rows_per_unit(member, fusing.num_units);
    if (rows == 0) {
      return invalid_argument(
          fmt::format("{} rows or columns do not divide over {} ranks", member.count, fusing.num_units));
    }
    unit_rows += rows;
    key.insert(key.end(), {member.count, member.each, member.repeats ? 1 : 0, static_cast<std::int64_t>(member.tensor),
                           member.begin, member.stride, member.run, member.step});
  }
  const std::int64_t rows = unit_rows * fusing.num_units;
  if (rows % fusing.num_parts != 0 && !fusing.is_chunked) {
    return invalid_argument(fmt::format("{} rows in all do not divide over {} ranks", rows, fusing.num_parts));
  }
  DimMapPtr& map = maps_[std::move(key)];
  if (map != nullptr) return map;
  const std::int64_t part_rows = ceil_div(rows, fusing.num_parts);
  map = make_parts(fusing.num_parts, [&](std::int64_t p) {
    DimPart part;
    const std::int64_t begin = std::min(rows, p * part_rows), end = std::min(rows, begin + part_rows);
    part.extent = end - begin;
    // From the first unit that the part's rows touch.
    for (std::int64_t unit = begin / unit_rows; unit * unit_rows < end; ++unit) {
      std::int64_t at = unit * unit_rows;
      for (const FusedMember& member : fusing.members) {
        if (member.tensor == tensor) add_share(member, fusing.num_units, unit, at, begin, end, &part);
        at += rows_per_unit(member, fusing.num_units);
      }
    }
    return part;
  });
  return map;
}

}  // namespace reshard
