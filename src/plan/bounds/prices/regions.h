// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/routing/fabric.h"

namespace reshard::bounds {

/// What hangs together without passing uplinks. A block is the domains that share leaf switches, directly or by way of
/// further domains (of a node with eight ports on eight leaves all eight, and all nodes on them); a region is the same
/// of pods. Bytes that nobody in a block has come into it through the downlink of one of its leaves.
struct Regions {
  explicit Regions(const routing::Fabric& fabric);

  IndexedVector<DomainId, std::int32_t> block;
  IndexedVector<DomainId, std::int32_t> region;  ///< a block is in one
  std::int32_t num_blocks = 0;
  std::int32_t num_regions = 0;
};

/// In which domains, blocks and regions somebody holds a bundle.
class Held {
 public:
  /// The regions must outlive it.
  explicit Held(const Regions& regions);

  void clear() { ++bundle_; }
  void add(DomainId domain);
  bool domain(DomainId id) const { return domains_[id] == bundle_; }
  bool block_of(DomainId id) const { return blocks_[static_cast<std::size_t>(regions_.block[id])] == bundle_; }
  bool region_of(DomainId id) const { return in_regions_[static_cast<std::size_t>(regions_.region[id])] == bundle_; }

 private:
  const Regions& regions_;
  std::int64_t bundle_ = 1;  // the number of the bundle at hand; marks with it count
  IndexedVector<DomainId, std::int64_t> domains_;
  std::vector<std::int64_t> blocks_, in_regions_;
};

}  // namespace reshard::bounds
