// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// LB1 to LB4, LB6, LB7: cuts through ports and links.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "src/base/at.h"
#include "src/plan/bounds/cuts.h"
#include "src/plan/bounds/largest.h"
#include "src/plan/water_fill.h"

namespace reshard::bounds {

/// What a rank needs and does not hold comes to it at least once, over its links from its domain or through its port
/// and its PCIe. Where it comes from, how often it was passed on, and what else comes to the rank to be passed on
/// only adds to it.
Bound gpu_ingress(const Cuts& cuts) {
  Largest out("LB1 gpu ingress");
  for (std::int32_t r = 0; r < cuts.machine.num_ranks(); ++r) {
    const Machine::Gpu& gpu = at(cuts.machine.gpus, r);
    const std::int64_t link = gpu.link.bytes_per_s();
    const bool has_neighbours = at(cuts.machine.domains, gpu.domain).ranks.size() > 1;
    if (has_neighbours && link == 0) continue;  // no limit
    std::int64_t port = gpu.port < 0 ? 0 : cuts.ports.reached_in(gpu.domain, gpu.port);
    if (gpu.pcie.is_limited()) port = std::min(port, gpu.pcie.bytes_per_s());
    out.offer(at(cuts.bytes.needed, r), (has_neighbours ? link : 0) + port,
              [&] { return fmt::format("links and port into rank {}", r); });
  }
  return out.take();
}

/// A byte that some rank of a domain needs and none holds comes into the domain at least once, through one of its
/// ports. It may come more often.
Bound domain_ingress(const Cuts& cuts) {
  Largest out("LB2 domain ingress");
  for (std::size_t d = 0; d < cuts.bytes.entering.size(); ++d) {
    const auto domain = static_cast<std::int32_t>(d);
    out.offer(cuts.bytes.entering[d], cuts.ports.in(domain), [&] { return "ports into " + cuts.ports.name(domain); });
  }
  return out.take();
}

/// A byte that only ranks of one domain hold and some rank elsewhere needs leaves the domain at least once, through
/// one of its ports: every tree that brings it begins at a holder and has a hop out of the domain.
Bound domain_egress(const Cuts& cuts) {
  Largest out("LB3 domain egress");
  for (std::size_t d = 0; d < cuts.bytes.leaving.size(); ++d) {
    const auto domain = static_cast<std::int32_t>(d);
    out.offer(cuts.bytes.leaving[d], cuts.ports.out(domain), [&] { return "ports out of " + cuts.ports.name(domain); });
  }
  return out.take();
}

/// Every byte that some domain lacks leaves one of its holders' domains at least once. So those that only domains of
/// a set hold leave the set's ports at least once each; the certificate is that quotient of the best level set.
Bound source_sets(const Cuts& cuts) {
  std::map<std::vector<std::int32_t>, std::int64_t> bytes;  // by holders' domains, ascending
  for (const Bundle& bundle : cuts.plan.bundles) {
    const RanksByDomain& wanted = cuts.domains.of(bundle.destinations);
    const bool is_remote = std::any_of(wanted.domains.begin(), wanted.domains.end(),
                                       [&](std::int32_t d) { return !cuts.domains.touches(bundle.sources, d); });
    if (!is_remote) continue;
    std::vector<std::int32_t> holders = cuts.domains.of(bundle.sources).domains;
    std::sort(holders.begin(), holders.end());
    bytes[std::move(holders)] += bundle.size_bytes;
  }
  std::vector<Demand> demands;
  for (const auto& [holders, sum] : bytes) demands.push_back({sum, holders});
  std::vector<std::int64_t> capacities;
  for (std::size_t d = 0; d < cuts.machine.domains.size(); ++d)
    capacities.push_back(cuts.ports.out(static_cast<std::int32_t>(d)));
  Largest out("LB4 source set");
  if (demands.empty()) return out.take();
  const WaterFill fill = water_fill(demands, capacities);
  // Levels are rounded up to whole bytes of the fastest domain; what is below them by one is below the truth.
  const std::int64_t level = std::max<std::int64_t>(0, fill.bound - 1);
  out.offer(level, *std::max_element(capacities.begin(), capacities.end()),
            [] { return "ports out of the domains that alone hold what others need"; });
  return out.take();
}

/// Where rails are isolated, what comes into a domain by a rail's ports has left another domain by that rail: in time
/// T no more of it than the lesser of the two rates allows. LB2 with that in place of the ports.
Bound rails(const Cuts& cuts) {
  Largest out("LB6 rail");
  for (std::size_t d = 0; d < cuts.bytes.entering.size(); ++d) {
    std::map<std::int32_t, std::int64_t> in;  // bytes per second by rail
    for (const std::int32_t id : at(cuts.machine.domains, d).ports) {
      const Machine::Port& port = at(cuts.machine.ports, id);
      in[port.rail] += port.in.bytes_per_s();
    }
    std::int64_t rate = 0;
    for (const auto& [rail, mine] : in) {
      rate += std::min(mine, cuts.ports.sent_by_others(static_cast<std::int32_t>(d), rail));
    }
    out.offer(cuts.bytes.entering[d], rate,
              [&] { return "rails into " + cuts.ports.name(static_cast<std::int32_t>(d)); });
  }
  return out.take();
}

/// Of the ranks of a domain that share a port, those that need something receive it over their links or through the
/// port; so the sum of what they need is at most the time times their links and the port once. (Not over the links
/// alone, beyond one copy that came through a port: a plan may let the same byte in several times, and does where
/// ports are faster than links.) All ranks of the domain together bound nothing beyond that: the quotient of sums is
/// no larger than the largest of the quotients.
Bound shared_ports(const Cuts& cuts) {
  Largest out("LB7 domain links and ports");
  for (std::size_t d = 0; d < cuts.machine.domains.size(); ++d) {
    const std::vector<std::int32_t>& ranks = at(cuts.machine.domains, d).ranks;
    struct Sharers {
      std::int64_t needed = 0;
      std::int64_t links = 0;
      bool is_limited = true;
    };
    std::map<std::int32_t, Sharers> by_port;
    for (const std::int32_t rank : ranks) {
      const Machine::Gpu& gpu = at(cuts.machine.gpus, rank);
      if (gpu.port < 0 || at(cuts.bytes.needed, rank) == 0) continue;
      Sharers& sharers = by_port[gpu.port];
      sharers.needed += at(cuts.bytes.needed, rank);
      if (ranks.size() == 1) continue;  // no links to anybody
      sharers.links += gpu.link.bytes_per_s();
      sharers.is_limited = sharers.is_limited && gpu.link.is_limited();
    }
    for (const auto& [port, sharers] : by_port) {
      if (!sharers.is_limited) continue;
      const auto domain = static_cast<std::int32_t>(d);
      out.offer(sharers.needed, sharers.links + cuts.ports.reached_in(domain, port), [&, id = port] {
        return fmt::format("{} and links of its ranks, {}", at(cuts.machine.ports, id).name, cuts.ports.name(domain));
      });
    }
  }
  return out.take();
}

}  // namespace reshard::bounds
