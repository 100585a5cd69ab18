// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/replan/changes.h"

#include <algorithm>
#include <tuple>

namespace reshard {
namespace {

/// Bytes of an old bundle from one rank to another.
struct Leg {
  std::int32_t old_bundle = -1;
  std::int32_t src = -1;
  std::int32_t dst = -1;
  std::int64_t bytes = 0;
  auto key() const { return std::tuple{old_bundle, src, dst}; }
};

template <typename Visit>
void for_each_leg(const Plan& plan, const Visit& visit) {
  for (const Route& route : plan.routes) {
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop hop = plan.begin_hops(route)[h];
      for (const Range& range : plan.ranges_of(route)) visit(hop, range);
    }
  }
}

bool is_before(const Leg& a, const Leg& b) {
  return a.key() < b.key();
}

/// Of each pair of ranks the bytes of each old bundle, once.
std::vector<Leg> legs_of_old(const Plan& old, const std::vector<bool>& is_kept) {
  std::vector<Leg> legs;
  for_each_leg(old, [&](const Hop& hop, const Range& range) {
    if (!at(is_kept, range.bundle)) legs.push_back({range.bundle, hop.src, hop.dst, range.end - range.begin});
  });
  std::sort(legs.begin(), legs.end(), is_before);
  std::size_t count = 0;
  for (const Leg& leg : legs) {
    if (count > 0 && legs[count - 1].key() == leg.key()) {
      legs[count - 1].bytes += leg.bytes;
    } else {
      legs[count++] = leg;
    }
  }
  legs.resize(count);
  return legs;
}

/// Calls visit(old bundle, bytes) for the parts of a range; -1 for what the old plan has not got.
template <typename Visit>
void for_each_part(const std::vector<Kin>& kin, const Range& range, const Visit& visit) {
  auto its = std::lower_bound(kin.begin(), kin.end(), range, [](const Kin& a, const Range& r) {
    return std::pair{a.now.bundle, a.now.end} <= std::pair{r.bundle, r.begin};
  });
  std::int64_t position = range.begin;
  for (; its != kin.end() && its->now.bundle == range.bundle && its->now.begin < range.end; ++its) {
    const std::int64_t begin = std::max(its->now.begin, position);
    const std::int64_t end = std::min(its->now.end, range.end);
    if (position < begin) visit(-1, begin - position);
    visit(its->old_bundle, end - begin);
    position = end;
  }
  if (position < range.end) visit(-1, range.end - position);
}

}  // namespace

/// Each byte of the old plan is used up once, so that doubled traffic counts as changed.
Changes count_changes(const Plan& old, const Plan& now, const std::vector<Kin>& kin, const std::vector<bool>& is_kept) {
  std::vector<Leg> before = legs_of_old(old, is_kept);
  Changes changes;
  std::vector<bool> is_used(now.bundles.size()), is_changed(now.bundles.size());
  for_each_leg(now, [&](const Hop& hop, const Range& range) {
    is_used[static_cast<std::size_t>(range.bundle)] = true;
    for_each_part(kin, range, [&](std::int32_t old_bundle, std::int64_t bytes) {
      changes.bytes += bytes;
      if (old_bundle >= 0 && at(is_kept, old_bundle)) return;
      const Leg leg{old_bundle, hop.src, hop.dst, bytes};
      const auto found = std::lower_bound(before.begin(), before.end(), leg, is_before);
      if (found != before.end() && found->key() == leg.key()) {
        const std::int64_t same = std::min(bytes, found->bytes);
        found->bytes -= same;
        bytes -= same;
      }
      changes.bytes_changed += bytes;
      if (bytes > 0) is_changed[static_cast<std::size_t>(range.bundle)] = true;
    });
  });
  changes.bundles = std::count(is_used.begin(), is_used.end(), true);
  changes.bundles_changed = std::count(is_changed.begin(), is_changed.end(), true);
  return changes;
}

}  // namespace reshard
