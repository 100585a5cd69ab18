// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/report/group_times.h"

#include <algorithm>
#include <limits>
#include <map>

#include "src/plan/loads.h"

namespace reshard {
namespace {

/// Bytes of a route by the place of their group in the receivers' order.
using Parts = std::map<std::int32_t, GroupBytes>;

Parts parts_of(const Plan& plan, const GroupSplitter& splitter, const Route& route) {
  Parts parts;
  std::vector<GroupBytes> split;
  for (const Range& range : plan.ranges_of(route)) {
    split.clear();
    splitter.split(range, &split);
    for (const GroupBytes& part : split) {
      GroupBytes& sum = parts[plan.position_of(part.group, route.first_group)];
      sum = {part.group, sum.bytes + part.bytes};
    }
  }
  return parts;
}

void extend(GroupTime* time, std::int64_t moved_bytes, double start_s, double finish_s) {
  time->moved_bytes += moved_bytes;
  time->start_s = std::min(time->start_s, start_s);
  time->finish_s = std::max(time->finish_s, finish_s);
}

}  // namespace

std::vector<GroupTime> group_times(const Plan& plan, const Simulation& simulation) {
  const GroupSplitter splitter(plan);
  std::vector<GroupTime> times(plan.groups.size());
  for (std::size_t g = 0; g < times.size(); ++g) {
    times[g] = {static_cast<std::int32_t>(g), 0, std::numeric_limits<double>::infinity(), 0};
  }
  Parts parts;
  std::int64_t parts_route = -1;  // the flows of a route follow each other
  for (const SimulatedFlow& flow : simulation.flows) {
    const Route& route = at(plan.routes, flow.route);
    if (parts_route != flow.route) parts = parts_of(plan, splitter, route);
    parts_route = flow.route;
    if (plan.options.open_groups > 0) {
      const GroupBytes& part = parts.at(flow.position);
      extend(&at(times, part.group), part.bytes * route.num_hops, flow.start_s, flow.finish_s);
      continue;
    }
    const double seconds_per_byte = (flow.finish_s - flow.start_s) / static_cast<double>(flow.bytes);
    std::int64_t done = 0;
    for (const auto& [position, part] : parts) {
      const double start_s = flow.start_s + seconds_per_byte * static_cast<double>(done);
      done += part.bytes;
      const double finish_s =
          done == flow.bytes ? flow.finish_s : flow.start_s + seconds_per_byte * static_cast<double>(done);
      extend(&at(times, part.group), part.bytes * route.num_hops, start_s, finish_s);
    }
  }
  std::erase_if(times, [](const GroupTime& time) { return time.moved_bytes == 0; });
  return times;
}

}  // namespace reshard
