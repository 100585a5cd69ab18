// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/bounds/domain_ports.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/at.h"

namespace reshard::bounds {

/// What ports send, by rail: in all, and those of a domain that no other domain shares. Ports of no rank send nothing.
DomainPorts::DomainPorts(const Machine& machine) : machine_(machine) {
  std::vector<std::int32_t> num_domains_of(machine_.ports.size());  // whose ranks have it
  for (const Machine::Domain& domain : machine_.domains) {
    for (const std::int32_t id : domain.ports) ++at(num_domains_of, id);
  }
  for (std::size_t p = 0; p < machine_.ports.size(); ++p) {
    const Machine::Port& port = at(machine_.ports, p);
    if (num_domains_of[p] > 0) sent_by_all_[rail_of(port)] += port.out.bytes_per_s();
  }
  for (const Machine::Domain& domain : machine_.domains) {
    Sums& mine = sent_by_domain_.emplace_back();
    for (const std::int32_t id : domain.ports) {
      const Machine::Port& port = at(machine_.ports, id);
      if (at(num_domains_of, id) == 1) mine[rail_of(port)] += port.out.bytes_per_s();
    }
  }
}

std::int64_t DomainPorts::in(std::int32_t domain) const {
  std::int64_t sum = 0;
  for (const std::int32_t port : at(machine_.domains, domain).ports) sum += at(machine_.ports, port).in.bytes_per_s();
  return sum;
}

std::int64_t DomainPorts::out(std::int32_t domain) const {
  std::int64_t sum = 0;
  for (const std::int32_t port : at(machine_.domains, domain).ports) sum += at(machine_.ports, port).out.bytes_per_s();
  return sum;
}

std::int64_t DomainPorts::sent_by_others(std::int32_t domain, std::int32_t rail) const {
  const auto all = sent_by_all_.find(rail);
  if (all == sent_by_all_.end()) return 0;
  const Sums& sums = at(sent_by_domain_, domain);
  const auto mine = sums.find(rail);
  return all->second - (mine == sums.end() ? 0 : mine->second);
}

std::int64_t DomainPorts::reached_in(std::int32_t domain, std::int32_t id) const {
  const Machine::Port& port = at(machine_.ports, id);
  return std::min(port.in.bytes_per_s(), sent_by_others(domain, rail_of(port)));
}

std::string DomainPorts::name(std::int32_t domain) const {
  const auto node_of = [&](std::int32_t rank) { return at(machine_.nodes, at(machine_.gpus, rank).node).name; };
  const std::vector<std::int32_t>& ranks = at(machine_.domains, domain).ranks;
  const std::string first = node_of(ranks.front());
  const std::string last = node_of(ranks.back());
  return fmt::format("domain {} ({})", domain, first == last ? first : first + " to " + last);
}

}  // namespace reshard::bounds
