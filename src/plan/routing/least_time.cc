// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/least_time.h"

#include "src/base/at.h"

namespace reshard::routing {
namespace {

/// What passes in and out of a port, through PCIe and NIC; kUnlimited where neither limits.
std::int64_t port_rate(const Fabric& fabric, RankId rank, ResourceKind pcie, ResourceKind nic) {
  const std::int64_t first = at(fabric.capacities, fabric.machine.resource(pcie, rank));
  const std::int64_t second = at(fabric.capacities, fabric.machine.resource(nic, fabric.machine.gpus[rank].port));
  if (first == kUnlimited || second == kUnlimited) return std::max(first, second);
  return std::min(first, second);
}

/// Rates that add up, until one has no limit.
struct Rate {
  std::int64_t bytes_per_s = 0;
  bool is_limited = true;
  void add(std::int64_t rate) {
    if (rate == kUnlimited) is_limited = false;
    bytes_per_s += rate;
  }
  void raise(std::int64_t bytes, Time* time) const {
    const Time its{bytes, bytes_per_s};
    if (is_limited && bytes_per_s > 0 && *time < its) *time = its;
  }
};

}  // namespace

/// What only one domain holds has to leave it. In other sections there is another one, in twins of it.
Time least_time(const Plan& plan, const Fabric& fabric, const DomainSets& domains, const std::vector<Demand>& demands,
                std::size_t num_sections) {
  const Machine& machine = fabric.machine;
  IndexedVector<RankId, std::int64_t> into_rank(fabric.ranks.size());
  IndexedVector<DomainId, std::int64_t> into(machine.domains.size()), out_of(machine.domains.size());
  for (const Demand& demand : demands) {
    const Audience audience(domains, at(plan.bundles, demand.range.bundle));
    const Audience::Place* only = nullptr;
    std::size_t num_holding = 0;
    bool is_crossing = false;
    for (const Audience::Place& place : audience.places()) {
      for (const std::int32_t rank : place.lacking) into_rank[RankId(rank)] += demand.bytes();
      if (!place.holders.empty()) {
        only = &place;
        ++num_holding;
      } else {
        into[place.domain] += demand.bytes();
        is_crossing = true;
      }
    }
    if (is_crossing && num_holding * num_sections == 1) out_of[only->domain] += demand.bytes();
  }
  Time time{1, std::int64_t{1} << 40};
  for (const DomainId domain : machine.domains.ids()) {
    Rate in, out;
    for (const std::int32_t number : machine.domains[domain].ranks) {
      const RankId rank(number);
      Rate own;
      if (machine.domains[domain].ranks.size() > 1) {
        own.add(at(fabric.capacities, machine.resource(ResourceKind::kLinkIn, rank)));
      }
      if (fabric.has_port(rank)) {
        const std::int64_t port_in = port_rate(fabric, rank, ResourceKind::kPcieIn, ResourceKind::kNicIn);
        own.add(port_in);
        in.add(port_in);
        out.add(port_rate(fabric, rank, ResourceKind::kPcieOut, ResourceKind::kNicOut));
      }
      own.raise(into_rank[rank], &time);
    }
    in.raise(into[domain], &time);
    out.raise(out_of[domain], &time);
  }
  return time;
}

}  // namespace reshard::routing
