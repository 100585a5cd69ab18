// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>

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

}  // namespace reshard::bounds
