// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <algorithm>
#include <cstdint>

#include "src/base/indexed_vector.h"
#include "topology/machine.h"

namespace reshard {

/// What lies between two ranks, looked up instead of found anew for each of the millions of hops that large plans have.
/// The same as Machine::latency_ns() and the rates of Machine::append_path().
class Paths {
 public:
  explicit Paths(const Machine& machine);

  /// Sum of the latencies on the way.
  std::int64_t latency_ns(RankId src, RankId dst) const {
    return along(src, dst, std::int64_t{0}, &End::latency_ns, [](std::int64_t a, std::int64_t b) { return a + b; });
  }
  /// Of the slowest that bytes pass; kNoLimit where nothing limits them.
  std::int64_t slowest_bytes_per_s(RankId src, RankId dst) const {
    return along(src, dst, kNoLimit, &End::bytes_per_s, [](std::int64_t a, std::int64_t b) { return std::min(a, b); });
  }
  static constexpr std::int64_t kNoLimit = INT64_MAX;

 private:
  /// What bytes pass as they leave something, or as they enter it.
  struct End {
    std::int64_t bytes_per_s = kNoLimit;
    std::int64_t latency_ns = 0;
  };
  struct OfRank {
    DomainId domain;
    LeafId leaf;
    End link_out, link_in, port_out, port_in;
  };
  struct OfLeaf {
    PodId pod;
    End up, down;
  };
  struct OfPod {
    End up, down;
  };

  template <typename Join>
  std::int64_t along(RankId src, RankId dst, std::int64_t none, std::int64_t End::*what, const Join& join) const {
    if (src == dst) return none;
    const OfRank& from = ranks_[src];
    const OfRank& to = ranks_[dst];
    if (from.domain == to.domain) return join(from.link_out.*what, to.link_in.*what);
    const std::int64_t ports = join(from.port_out.*what, to.port_in.*what);
    if (from.leaf == to.leaf) return ports;
    const OfLeaf& up = leaves_[from.leaf];
    const OfLeaf& down = leaves_[to.leaf];
    const std::int64_t leaves = join(ports, join(up.up.*what, down.down.*what));
    if (up.pod == down.pod) return leaves;
    return join(leaves, join(pods_[up.pod].up.*what, pods_[down.pod].down.*what));
  }

  IndexedVector<RankId, OfRank> ranks_;
  IndexedVector<LeafId, OfLeaf> leaves_;
  IndexedVector<PodId, OfPod> pods_;
};

}  // namespace reshard
