// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/least_time.h"

#include <algorithm>
#include <map>

#include "src/base/at.h"

namespace reshard::routing {
namespace {

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

/// What passes a port from or to some ranks that share it: through the PCIe of each, and once through the NIC.
class PortRate {
 public:
  PortRate(const Fabric& fabric, ResourceKind pcie, ResourceKind nic) : fabric_(fabric), pcie_(pcie), nic_(nic) {}

  void add(RankId rank) {
    pcie_rate_.add(at(fabric_.capacities, fabric_.machine.resource(pcie_, rank)));
    nic_rate_ = at(fabric_.capacities, fabric_.machine.resource(nic_, fabric_.machine.gpus[rank].port));
  }
  /// kUnlimited where neither limits.
  std::int64_t bytes_per_s() const {
    return pcie_rate_.is_limited ? std::min(pcie_rate_.bytes_per_s, nic_rate_) : nic_rate_;
  }

 private:
  const Fabric& fabric_;
  ResourceKind pcie_, nic_;
  Rate pcie_rate_;
  std::int64_t nic_rate_ = kUnlimited;
};

/// Of all ports of a domain, into it or out of it.
Rate ports_of(const Fabric& fabric, DomainId domain, ResourceKind pcie, ResourceKind nic) {
  std::map<PortId, PortRate> ports;
  for (const std::int32_t number : fabric.machine.domains[domain].ranks) {
    const RankId rank(number);
    if (!fabric.has_port(rank)) continue;
    ports.try_emplace(fabric.machine.gpus[rank].port, fabric, pcie, nic).first->second.add(rank);
  }
  Rate out;
  for (const auto& [unused, port] : ports) out.add(port.bytes_per_s());
  return out;
}

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
    for (const std::int32_t number : machine.domains[domain].ranks) {
      const RankId rank(number);
      Rate own;
      if (machine.domains[domain].ranks.size() > 1) {
        own.add(at(fabric.capacities, machine.resource(ResourceKind::kLinkIn, rank)));
      }
      if (fabric.has_port(rank)) {
        PortRate port(fabric, ResourceKind::kPcieIn, ResourceKind::kNicIn);
        port.add(rank);
        own.add(port.bytes_per_s());
      }
      own.raise(into_rank[rank], &time);
    }
    if (into[domain] > 0) {
      ports_of(fabric, domain, ResourceKind::kPcieIn, ResourceKind::kNicIn).raise(into[domain], &time);
    }
    if (out_of[domain] > 0) {
      ports_of(fabric, domain, ResourceKind::kPcieOut, ResourceKind::kNicOut).raise(out_of[domain], &time);
    }
  }
  return time;
}

}  // namespace reshard::routing
