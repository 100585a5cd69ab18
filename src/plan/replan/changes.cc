// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/replan/changes.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

namespace reshard {
namespace {

template <typename Visit>
void for_each_leg(const Plan& plan, const Visit& visit) {
  for (const Route& route : plan.routes) {
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop hop = plan.begin_hops(route)[h];
      for (const Range& range : plan.ranges_of(route)) visit(range.bundle, hop, range.end - range.begin);
    }
  }
}

/// Bytes by old bundle and pair of ranks.
using Legs = std::map<std::tuple<std::int32_t, std::int32_t, std::int32_t>, std::int64_t>;

}  // namespace

/// Each byte of the old plan is used up once, so that doubled traffic counts as changed.
Changes count_changes(const Plan& old, const Plan& now, const BundleMatch& match) {
  std::vector<std::int32_t> old_of(now.bundles.size(), -1);
  for (std::size_t b = 0; b < match.now_of.size(); ++b) {
    if (match.now_of[b] >= 0) at(old_of, match.now_of[b]) = static_cast<std::int32_t>(b);
  }
  const auto stays = [&](std::int32_t bundle) {
    return bundle >= 0 && at(match.now_of, bundle) >= 0 && at(match.has_same_destinations, bundle);
  };
  Legs before;
  for_each_leg(old, [&](std::int32_t bundle, const Hop& hop, std::int64_t bytes) {
    if (!stays(bundle)) before[{bundle, hop.src, hop.dst}] += bytes;
  });
  Changes changes;
  std::vector<bool> is_used(now.bundles.size());
  std::set<std::int32_t> changed;
  for_each_leg(now, [&](std::int32_t bundle, const Hop& hop, std::int64_t bytes) {
    is_used[static_cast<std::size_t>(bundle)] = true;
    changes.bytes += bytes;
    if (stays(at(old_of, bundle))) return;
    std::int64_t same = 0;
    const auto found = before.find({at(old_of, bundle), hop.src, hop.dst});
    if (found != before.end()) {
      same = std::min(bytes, found->second);
      found->second -= same;
    }
    changes.bytes_changed += bytes - same;
    if (same < bytes) changed.insert(bundle);
  });
  changes.bundles = std::count(is_used.begin(), is_used.end(), true);
  changes.bundles_changed = std::ssize(changed);
  return changes;
}

}  // namespace reshard
