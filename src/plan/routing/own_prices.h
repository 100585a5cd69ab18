// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/routing/prices.h"
#include "src/plan/routing/uses.h"

namespace reshard::routing {

/// What a hop of depth costs, 1/256 of the full price: where there is capacity to spare trees are stars, and at the
/// limit they may be as deep as it takes.
inline constexpr std::uint64_t kLevelPrice = Prices::kFullPrice / 256;

/// Prices as a growing tree sees them: with the bytes that it will carry itself, as often as it uses a resource
/// already. They only rise while it grows.
class OwnPrices {
 public:
  OwnPrices(const Fabric& fabric, const Uses& uses, const Prices& prices)
      : fabric_(fabric), uses_(uses), prices_(prices), own_(static_cast<std::size_t>(prices.num_resources()) + 1) {}

  /// Begins anew, for a tree of so many bytes; with 0 prices are the plain ones.
  void begin(std::int64_t carried_bytes) {
    carried_bytes_ = carried_bytes;
    ++stamp_;
  }

  std::uint64_t of(std::int32_t resource) {
    if (carried_bytes_ == 0) return prices_.of(resource);
    return own(resource).price;
  }
  /// The tree uses the resource once more.
  void use(std::int32_t resource) {
    if (carried_bytes_ == 0) return;
    Own& mine = own(resource);
    ++mine.uses;
    mine.price = prices_.at_load(resource, prices_.load(resource) + (mine.uses + 1) * carried_bytes_);
  }

  std::uint64_t link_out(RankId rank) { return of(uses_.of(rank).memory) + of(uses_.of(rank).link_out); }
  std::uint64_t link_in(RankId rank) { return of(uses_.of(rank).memory) + of(uses_.of(rank).link_in); }
  std::uint64_t port_out(RankId rank) {
    if (!fabric_.has_port(rank)) return kNoWay;
    const Uses::OfRank& its = uses_.of(rank);
    return of(its.memory) + of(its.pcie_out) + of(its.nic_out);
  }
  std::uint64_t port_in(RankId rank) {
    if (!fabric_.has_port(rank)) return kNoWay;
    const Uses::OfRank& its = uses_.of(rank);
    return of(its.memory) + of(its.pcie_in) + of(its.nic_in);
  }
  std::uint64_t nic_out(RankId rank) { return of(uses_.of(rank).nic_out); }
  std::uint64_t leaf_up(LeafId leaf) { return of(uses_.leaf_up(leaf)); }
  std::uint64_t leaf_down(LeafId leaf) { return of(uses_.leaf_down(leaf)); }
  std::uint64_t pod_up(PodId pod) { return of(uses_.pod_up(pod)); }
  std::uint64_t pod_down(PodId pod) { return of(uses_.pod_down(pod)); }

 private:
  struct Own {
    std::uint64_t price = 0;
    std::uint32_t stamp = 0;
    std::int32_t uses = 0;
  };

  Own& own(std::int32_t resource) {
    Own& mine = own_[static_cast<std::size_t>(resource)];
    if (mine.stamp != stamp_) mine = {prices_.at_load(resource, prices_.load(resource) + carried_bytes_), stamp_, 0};
    return mine;
  }

  const Fabric& fabric_;
  const Uses& uses_;
  const Prices& prices_;
  std::vector<Own> own_;
  std::uint32_t stamp_ = 0;
  std::int64_t carried_bytes_ = 0;
};

}  // namespace reshard::routing
