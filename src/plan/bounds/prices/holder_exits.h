// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/routing/audience.h"
#include "src/plan/routing/fabric.h"

namespace reshard::bounds {

/// What a tree pays at least because some arc leads from a rank that holds the bytes to one that does not, and because
/// one leads into each rank that lacks them. That is said of ranks. What LeastTree says of domains overlooks it: a rank
/// of a holder's domain may have the bytes from elsewhere, for nothing, and send them there.
class HolderExits {
 public:
  /// Both must outlive it.
  HolderExits(const routing::Fabric& fabric, const routing::WayPrices& ways);

  /// 0 where no way leads from a holder.
  std::uint64_t least(const routing::Audience& audience);

 private:
  std::uint64_t least_out(const routing::Audience::Place& place);

  const routing::Fabric& fabric_;
  const routing::WayPrices& ways_;
  std::vector<std::int32_t> with_port_;  // ranks, by rail
  std::vector<std::int32_t> to_reach_;   // the same without holders of the bytes at hand
  std::vector<std::int32_t> inside_;     // those of a domain
};

}  // namespace reshard::bounds
