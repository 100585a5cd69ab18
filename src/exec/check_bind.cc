// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>

#include <algorithm>

#include "src/exec/bind.h"

namespace reshard {
namespace {

/// Checks one side's buffers against the layout and fills the table. Buffers from `num_given` on are not the caller's.
Status check_buffers(const ModelLayout& layout, std::int64_t num_given, const char* side, std::int32_t rank,
                     const std::vector<BoundBuffer>& given, BufferTable* table) {
  table->assign(layout.buffers().size(), nullptr);
  std::vector<bool> is_given(layout.buffers().size());
  std::vector<std::int64_t> wanted = layout.buffers_of(rank);
  std::erase_if(wanted, [&](std::int64_t id) { return id >= num_given; });
  for (const BoundBuffer& buffer : given) {
    if (!std::binary_search(wanted.begin(), wanted.end(), buffer.id)) {
      return invalid_argument(
          fmt::format("{} buffer {} is not one of rank {}; it has {}", side, buffer.id, rank, wanted.size()));
    }
    const std::string& name = at(layout.buffers(), buffer.id).name;
    const std::int64_t needed = layout.buffer_size_bytes(rank, buffer.id);
    if (buffer.size_bytes < needed) {
      return {RESHARD_ERR_BUFFER_TOO_SMALL,
              fmt::format("{} buffer {} (\"{}\") of rank {} has {} bytes; its layout needs {}", side, buffer.id, name,
                          rank, buffer.size_bytes, needed)};
    }
    if (buffer.data == nullptr && needed > 0) {
      return invalid_argument(fmt::format("{} buffer {} (\"{}\") of rank {} is NULL", side, buffer.id, name, rank));
    }
    if (at(is_given, buffer.id)) {
      return invalid_argument(fmt::format("{} buffer {} (\"{}\") is given twice", side, buffer.id, name));
    }
    is_given[static_cast<std::size_t>(buffer.id)] = true;
    at(*table, buffer.id) = buffer.data;
  }
  for (const std::int64_t id : wanted) {
    if (at(is_given, id) || layout.buffer_size_bytes(rank, id) == 0) continue;
    return invalid_argument(
        fmt::format("{} buffer {} (\"{}\") of rank {} is missing", side, id, at(layout.buffers(), id).name, rank));
  }
  return {};
}

/// Destinations must share memory with nothing: a run would read what it has already written. Where groups are held,
/// they may with each other, as whoever holds them sees to it that they are not open at once.
Status check_disjoint(const BindOptions& options) {
  struct Range {
    const std::byte* begin;
    const std::byte* end;
    const char* side;
    std::int64_t id;
  };
  std::vector<Range> ranges;
  for (const BoundBuffer& b : options.src) ranges.push_back({b.data, b.data + b.size_bytes, "source", b.id});
  for (const BoundBuffer& b : options.dst) ranges.push_back({b.data, b.data + b.size_bytes, "destination", b.id});
  std::erase_if(ranges, [](const Range& range) { return range.begin == range.end; });
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  const Range* furthest = nullptr;              // of all ranges so far
  const Range* furthest_source = nullptr;       // of the sources so far
  const Range* furthest_destination = nullptr;  // of the destinations so far
  for (const Range& range : ranges) {
    const bool is_destination = range.side[0] == 'd';
    const Range* other = is_destination ? (options.holds_groups ? furthest_source : furthest) : furthest_destination;
    if (other != nullptr && other->end > range.begin) {
      return invalid_argument(fmt::format("{} buffer {} overlaps {} buffer {}; a destination shares no memory",
                                          range.side, range.id, other->side, other->id));
    }
    if (furthest == nullptr || range.end > furthest->end) furthest = &range;
    const Range*& of_side = is_destination ? furthest_destination : furthest_source;
    if (of_side == nullptr || range.end > of_side->end) of_side = &range;
  }
  return {};
}

}  // namespace

Status check_bind_options(const BindOptions& options, RankMemory* memory) {
  RESHARD_TRY(options.arguments);
  const Plan& plan = *options.plan;
  const std::int32_t rank = options.transport->rank();
  if (options.transport->num_ranks() != plan.num_ranks) {
    return {RESHARD_ERR_LAYOUT_MISMATCH, fmt::format("the plan is for {} ranks and the comm has {}", plan.num_ranks,
                                                     options.transport->num_ranks())};
  }
  RESHARD_TRY(check_buffers(*plan.src, plan.num_given_src_buffers(), "source", rank, options.src, &memory->src));
  RESHARD_TRY(check_buffers(*plan.dst, plan.num_given_dst_buffers(), "destination", rank, options.dst, &memory->dst));
  return check_disjoint(options);
}

}  // namespace reshard
