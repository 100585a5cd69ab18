// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/replan/match.h"

#include <algorithm>
#include <unordered_map>

namespace reshard {
namespace {

/// Tells bundles of two plans apart by holders and content. Their numbers mean nothing across plans: one bundle more
/// shifts all that follow.
class BundleMatcher {
 public:
  BundleMatcher(const Plan& old, const Plan& now) : old_(old), now_(now) {
    for (std::size_t b = 0; b < now.bundles.size(); ++b) {
      if (!now.strands(now.bundles[b]).empty()) by_key_.emplace(key(now, now.bundles[b]), static_cast<std::int32_t>(b));
    }
  }

  /// The bundle of the new plan that equals this one of the old, destinations apart; -1 when there is none.
  std::int32_t match(std::int32_t bundle) const {
    const Bundle& mine = at(old_.bundles, bundle);
    if (old_.strands(mine).empty()) return -1;
    const auto [first, last] = by_key_.equal_range(key(old_, mine));
    const auto found =
        std::find_if(first, last, [&](const auto& entry) { return equal(mine, at(now_.bundles, entry.second)); });
    return found == last ? -1 : found->second;
  }

 private:
  /// Of the source tensor and place of a bundle's first element, and its holders. An element lies in one bundle of a
  /// plan, so that few have equal keys; whether all is the same, equal() says.
  static std::uint64_t key(const Plan& plan, const Bundle& bundle) {
    const Strand first = plan.strands(bundle)[0];
    const PlanTensor& tensor = at(plan.tensors, first.tensor);
    const Box& box = at(at(plan.classes, tensor.atom_class).atoms, first.first_atom).box;
    std::uint64_t key = static_cast<std::uint64_t>(tensor.src);
    const auto mix = [&key](std::int64_t value) {
      key = (key ^ static_cast<std::uint64_t>(value)) * 0x9e3779b97f4a7c15U;
      key ^= key >> 32U;
    };
    for (int d = 0; d < box.num_dims; ++d) mix(box.begin[d]);
    for (const std::int32_t rank : plan.sets.ranks(bundle.sources)) mix(rank);
    return key;
  }

  bool equal(const Bundle& a, const Bundle& b) const {
    const Strands mine = old_.strands(a), other = now_.strands(b);
    if (a.size_bytes != b.size_bytes || mine.size() != other.size()) return false;
    if (old_.sets.ranks(a.sources) != now_.sets.ranks(b.sources)) return false;
    for (std::size_t s = 0; s < mine.size(); ++s) {
      if (!equal(mine[s], other[s])) return false;
    }
    return true;
  }

  bool equal(const Strand& a, const Strand& b) const {
    const PlanTensor& mine = at(old_.tensors, a.tensor);
    const PlanTensor& other = at(now_.tensors, b.tensor);
    if (mine.src != other.src || mine.group != other.group || mine.wire_bytes != other.wire_bytes) return false;
    if (a.num_atoms != b.num_atoms) return false;
    for (std::int32_t i = 0; i < a.num_atoms; ++i) {
      const Box& box = at(at(old_.classes, mine.atom_class).atoms, a.first_atom + i).box;
      if (!(box == at(at(now_.classes, other.atom_class).atoms, b.first_atom + i).box)) return false;
    }
    return true;
  }

  const Plan& old_;
  const Plan& now_;
  std::unordered_multimap<std::uint64_t, std::int32_t> by_key_;
};

}  // namespace

BundleMatch match_bundles(const Plan& old, const Plan& now) {
  BundleMatch out;
  const BundleMatcher matcher(old, now);
  for (std::size_t b = 0; b < old.bundles.size(); ++b) {
    const std::int32_t match = matcher.match(static_cast<std::int32_t>(b));
    out.now_of.push_back(match);
    out.has_same_destinations.push_back(match >= 0 && old.sets.ranks(old.bundles[b].destinations) ==
                                                          now.sets.ranks(at(now.bundles, match).destinations));
  }
  return out;
}

}  // namespace reshard
