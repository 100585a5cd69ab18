// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/base/at.h"
#include "src/plan/routing/fabric.h"

namespace reshard::routing {

/// Which resources a hop uses, looked up instead of found anew: the router asks for each hop of each tree that it
/// thinks of. The same as Machine::append_uses().
class Uses {
 public:
  explicit Uses(const Fabric& fabric);

  /// Numbers of resources, free() for one without a limit.
  struct OfRank {
    std::int32_t memory, link_out, link_in, pcie_out, pcie_in, nic_out, nic_in;
  };
  const OfRank& of(RankId rank) const { return of_rank_[rank]; }
  std::int32_t leaf_up(LeafId leaf) const { return leaf_up_[leaf]; }
  std::int32_t leaf_down(LeafId leaf) const { return leaf_down_[leaf]; }
  std::int32_t pod_up(PodId pod) const { return pod_up_[pod]; }
  std::int32_t pod_down(PodId pod) const { return pod_down_[pod]; }

  /// In place of a resource without a limit: one more than there are. Nothing is ever counted on it.
  std::int32_t free() const { return free_; }

  /// Calls visit(resource) for each use of a hop. @pre the two are of one domain, or the network joins them
  template <typename Visit>
  void for_each(RankId src, RankId dst, const Visit& visit) const {
    const auto use = [&](std::int32_t resource) {
      if (resource != free_) visit(resource);
    };
    const OfRank& from = of_rank_[src];
    const OfRank& to = of_rank_[dst];
    use(from.memory);
    use(to.memory);
    const Fabric::Rank& tail = fabric_.ranks[src];
    const Fabric::Rank& head = fabric_.ranks[dst];
    if (tail.domain == head.domain) {
      use(from.link_out);
      use(to.link_in);
      return;
    }
    use(from.pcie_out);
    use(from.nic_out);
    use(to.nic_in);
    use(to.pcie_in);
    if (tail.leaf == head.leaf) return;
    use(leaf_up_[tail.leaf]);
    use(leaf_down_[head.leaf]);
    if (tail.pod == head.pod) return;
    use(pod_up_[tail.pod]);
    use(pod_down_[head.pod]);
  }

 private:
  const Fabric& fabric_;
  std::int32_t free_;
  IndexedVector<RankId, OfRank> of_rank_;
  IndexedVector<LeafId, std::int32_t> leaf_up_, leaf_down_;
  IndexedVector<PodId, std::int32_t> pod_up_, pod_down_;
};

}  // namespace reshard::routing
