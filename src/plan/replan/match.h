// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "src/plan/plan.h"

namespace reshard {

/// Of a source tensor and the first element of a box. An element lies in one bundle of a plan and in one atom, so that
/// few have equal keys.
std::uint64_t element_key(std::int64_t src_tensor, const Box& box);

/// Knows bundles of two plans by what they hold, whoever has and wants it. Their numbers mean nothing across plans: one
/// bundle more shifts all that follow.
class BundleMatcher {
 public:
  BundleMatcher(const Plan& old, const Plan& now);
  /// The bundle of the new plan with the same stream as this one of the old; -1 when there is none.
  std::int32_t match(std::int32_t bundle) const;

 private:
  bool equal(const Bundle& a, const Bundle& b) const;
  bool equal(const Strand& a, const Strand& b) const;

  const Plan& old_;
  const Plan& now_;
  std::unordered_multimap<std::uint64_t, std::int32_t> by_key_;
};

/// Which bundles of an old plan are also bundles of a new one: with the same stream and the same holders.
struct BundleMatch {
  std::vector<std::int32_t> now_of;         ///< by old bundle, that of the new plan; -1: none
  std::vector<bool> has_same_destinations;  ///< by old bundle
};

BundleMatch match_bundles(const Plan& old, const Plan& now);

}  // namespace reshard
