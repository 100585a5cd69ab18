// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/replan/match.h"

#include <algorithm>

namespace reshard {
namespace {

/// Of the bundle's first element. @pre it has one
std::uint64_t key_of(const Plan& plan, const Bundle& bundle) {
  const Strand first = plan.strands(bundle)[0];
  const PlanTensor& tensor = at(plan.tensors, first.tensor);
  return element_key(tensor.src, at(at(plan.classes, tensor.atom_class).atoms, first.first_atom).box);
}

}  // namespace

std::uint64_t element_key(std::int64_t src_tensor, const Box& box) {
  std::uint64_t key = static_cast<std::uint64_t>(src_tensor);
  for (int d = 0; d < box.num_dims; ++d) {
    key = (key ^ static_cast<std::uint64_t>(box.begin[d])) * 0x9e3779b97f4a7c15U;
    key ^= key >> 32U;
  }
  return key;
}

BundleMatcher::BundleMatcher(const Plan& old, const Plan& now) : old_(old), now_(now) {
  for (std::int32_t b = 0; b < std::ssize(now.bundles); ++b) {
    const Bundle& bundle = at(now.bundles, b);
    if (!now.strands(bundle).empty()) by_key_.emplace(key_of(now, bundle), b);
  }
}

std::int32_t BundleMatcher::match(std::int32_t bundle) const {
  const Bundle& mine = at(old_.bundles, bundle);
  if (old_.strands(mine).empty()) return -1;
  const auto [first, last] = by_key_.equal_range(key_of(old_, mine));
  const auto found =
      std::find_if(first, last, [&](const auto& entry) { return equal(mine, at(now_.bundles, entry.second)); });
  return found == last ? -1 : found->second;
}

bool BundleMatcher::equal(const Bundle& a, const Bundle& b) const {
  const Strands mine = old_.strands(a), other = now_.strands(b);
  if (a.size_bytes != b.size_bytes || mine.size() != other.size()) return false;
  for (std::size_t s = 0; s < mine.size(); ++s) {
    if (!equal(mine[s], other[s])) return false;
  }
  return true;
}

bool BundleMatcher::equal(const Strand& a, const Strand& b) const {
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

BundleMatch match_bundles(const Plan& old, const Plan& now) {
  BundleMatch out;
  const BundleMatcher matcher(old, now);
  for (std::int32_t b = 0; b < std::ssize(old.bundles); ++b) {
    const Bundle& before = at(old.bundles, b);
    std::int32_t match = matcher.match(b);
    if (match >= 0 && old.sets.ranks(before.sources) != now.sets.ranks(at(now.bundles, match).sources)) match = -1;
    out.now_of.push_back(match);
    out.has_same_destinations.push_back(match >= 0 && old.sets.ranks(before.destinations) ==
                                                          now.sets.ranks(at(now.bundles, match).destinations));
  }
  return out;
}

}  // namespace reshard
