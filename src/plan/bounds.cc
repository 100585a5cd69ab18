// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What no plan can beat. Nearly every bound is a cut: put ranks on two sides, count the bytes that are needed on one
// and held only on the other, and divide by what joins the sides. A byte counts once for a cut, whatever number of
// ranks behind it wants it, since one copy may be handed on there: so a bound holds for plans with relays and
// multicast, too. The largest is printed beside every estimate, with its name, so that it shows what would have to be
// bought or changed to become quicker.
//
// Bytes are integers and seconds are doubles: a plan is judged by its bounds but never made by them, so that their last
// digits may differ between machines.
#include "src/plan/bounds.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

#include "src/plan/bounds/certificate.h"
#include "src/plan/domain_sets.h"
#include "src/plan/loads.h"
#include "src/plan/order_bound.h"
#include "src/plan/region_bound.h"
#include "src/plan/water_fill.h"

namespace reshard {
namespace {

double seconds_of(std::int64_t bytes, std::int64_t bytes_per_s) {
  return bytes == 0 || bytes_per_s == 0 ? 0 : static_cast<double>(bytes) / static_cast<double>(bytes_per_s);
}

/// Keeps the place where a bound is largest. A rate of 0 is no limit, and bounds nothing.
class Largest {
 public:
  explicit Largest(std::string name) { bound_.name = std::move(name); }
  template <typename Describe>
  void offer(std::int64_t bytes, std::int64_t bytes_per_s, const Describe& describe) {
    const double seconds = seconds_of(bytes, bytes_per_s);
    if (seconds <= bound_.seconds) return;
    bound_.seconds = seconds;
    bound_.resource = describe();
  }
  Bound take() { return std::move(bound_); }

 private:
  Bound bound_;
};

class BoundFinder {
 public:
  BoundFinder(const Plan& plan, const std::vector<std::int64_t>& loads)
      : plan_(plan), machine_(*plan.options.machine), loads_(loads), domains_(machine_, plan.sets) {
    count();
    find_senders();
  }

  std::vector<Bound> run() {
    std::vector<Bound> out = {gpu_ingress(), domain_ingress(), domain_egress(), source_sets()};
    out.push_back(leaf_bound(plan_, domains_));
    out.push_back(pod_bound(plan_, domains_));
    if (machine_.rail_isolated) out.push_back(rails());
    out.push_back(shared_ports());
    out.push_back(memory());
    out.push_back(pcie());
    out.push_back(prices(largest(out).seconds));
    out.push_back(latency());
    if (plan_.options.open_groups > 0) out.push_back(order_bound(plan_, domains_));
    return out;
  }

 private:
  using PerDomain = std::vector<std::int64_t>;
  using Sums = std::map<std::int32_t, std::int64_t>;  // bytes per second by rail

  /// Fills the sums that most bounds share, in one pass over bundles: what each rank lacks and what it copies, what
  /// nobody in a domain has, and what only one domain has.
  void count() {
    needed_.resize(machine_.gpus.size());
    copied_.resize(machine_.gpus.size());
    read_.resize(machine_.gpus.size());
    entering_.resize(machine_.domains.size());
    leaving_.resize(machine_.domains.size());
    for (const Bundle& bundle : plan_.bundles) {
      const RanksByDomain& sources = domains_.of(bundle.sources);
      const RanksByDomain& wanted = domains_.of(bundle.destinations);
      const std::vector<std::int32_t>& holders = plan_.sets.ranks(bundle.sources);
      bool is_sent = false;
      for (const std::int32_t rank : plan_.sets.ranks(bundle.destinations)) {
        const bool is_local = plan_.sets.contains(bundle.sources, rank);
        at(is_local ? copied_ : needed_, rank) += bundle.size_bytes;
        is_sent = is_sent || !is_local;
      }
      if (is_sent && holders.size() == 1) at(read_, holders.front()) += bundle.size_bytes;
      bool is_remote = false;
      for (const std::int32_t domain : wanted.domains) {
        if (domains_.touches(bundle.sources, domain)) continue;
        at(entering_, domain) += bundle.size_bytes;
        is_remote = true;
      }
      // Held in two domains, either may send it: no single one has to. Sets of domains are LB4's.
      if (is_remote && sources.num_domains() == 1) at(leaving_, sources.domains.front()) += bundle.size_bytes;
    }
  }

  /// Bytes per second of all ports of a domain, of each direction.
  std::int64_t ports_in(std::int32_t domain) const {
    std::int64_t sum = 0;
    for (const std::int32_t port : at(machine_.domains, domain).ports) sum += at(machine_.ports, port).in.bytes_per_s();
    return sum;
  }
  std::int64_t ports_out(std::int32_t domain) const {
    std::int64_t sum = 0;
    for (const std::int32_t port : at(machine_.domains, domain).ports)
      sum += at(machine_.ports, port).out.bytes_per_s();
    return sum;
  }

  std::string domain_name(std::int32_t domain) const {
    const auto node_of = [&](std::int32_t rank) { return at(machine_.nodes, at(machine_.gpus, rank).node).name; };
    const std::vector<std::int32_t>& ranks = at(machine_.domains, domain).ranks;
    const std::string first = node_of(ranks.front());
    const std::string last = node_of(ranks.back());
    return fmt::format("domain {} ({})", domain, first == last ? first : first + " to " + last);
  }

  /// Ports that can reach each other have one rail here, where rails are joined all of them.
  std::int32_t rail_of(const Machine::Port& port) const { return machine_.rail_isolated ? port.rail.value() : 0; }

  /// What ports send, by rail: in all, and those of a domain that no other domain shares. Ports of no rank send
  /// nothing.
  void find_senders() {
    num_domains_of_.resize(machine_.ports.size());
    for (const Machine::Domain& domain : machine_.domains) {
      for (const std::int32_t id : domain.ports) ++at(num_domains_of_, id);
    }
    for (std::size_t p = 0; p < machine_.ports.size(); ++p) {
      const Machine::Port& port = at(machine_.ports, p);
      if (num_domains_of_[p] > 0) sent_by_all_[rail_of(port)] += port.out.bytes_per_s();
    }
    for (const Machine::Domain& domain : machine_.domains) {
      Sums& mine = sent_by_domain_.emplace_back();
      for (const std::int32_t id : domain.ports) {
        const Machine::Port& port = at(machine_.ports, id);
        if (at(num_domains_of_, id) == 1) mine[rail_of(port)] += port.out.bytes_per_s();
      }
    }
  }

  /// What other domains' ports send on a rail: no more than that comes into this one by it. GPUs of another domain may
  /// share a port of this one, and what they send to it comes in by the same port.
  std::int64_t sent_by_others(std::int32_t domain, std::int32_t rail) const {
    const auto all = sent_by_all_.find(rail);
    if (all == sent_by_all_.end()) return 0;
    const Sums& sums = at(sent_by_domain_, domain);
    const auto mine = sums.find(rail);
    return all->second - (mine == sums.end() ? 0 : mine->second);
  }

  /// What comes into a domain by a port: no more than others send, and so nothing where nobody reaches it. A port that
  /// counted for more would make LB1 and LB7 smaller than they are: in a machine of one domain nothing ever comes over
  /// the network, whatever its ports could take.
  std::int64_t reached_in(std::int32_t domain, std::int32_t id) const {
    const Machine::Port& port = at(machine_.ports, id);
    return std::min(port.in.bytes_per_s(), sent_by_others(domain, rail_of(port)));
  }

  /// What a rank needs and does not hold comes to it at least once, over its links from its domain or through its port
  /// and its PCIe. Where it comes from, how often it was passed on, and what else comes to the rank to be passed on
  /// only adds to it.
  Bound gpu_ingress() const {
    Largest out("LB1 gpu ingress");
    for (std::int32_t r = 0; r < machine_.num_ranks(); ++r) {
      const Machine::Gpu& gpu = at(machine_.gpus, r);
      const std::int64_t link = gpu.link.bytes_per_s();
      const bool has_neighbours = at(machine_.domains, gpu.domain).ranks.size() > 1;
      if (has_neighbours && link == 0) continue;  // no limit
      std::int64_t port = gpu.port < 0 ? 0 : reached_in(gpu.domain, gpu.port);
      if (gpu.pcie.is_limited()) port = std::min(port, gpu.pcie.bytes_per_s());
      out.offer(at(needed_, r), (has_neighbours ? link : 0) + port,
                [&] { return fmt::format("links and port into rank {}", r); });
    }
    return out.take();
  }

  /// A byte that some rank of a domain needs and none holds comes into the domain at least once, through one of its
  /// ports. It may come more often.
  Bound domain_ingress() const {
    Largest out("LB2 domain ingress");
    for (std::size_t d = 0; d < entering_.size(); ++d) {
      const auto domain = static_cast<std::int32_t>(d);
      out.offer(entering_[d], ports_in(domain), [&] { return "ports into " + domain_name(domain); });
    }
    return out.take();
  }

  /// A byte that only ranks of one domain hold and some rank elsewhere needs leaves the domain at least once, through
  /// one of its ports: every tree that brings it begins at a holder and has a hop out of the domain.
  Bound domain_egress() const {
    Largest out("LB3 domain egress");
    for (std::size_t d = 0; d < leaving_.size(); ++d) {
      const auto domain = static_cast<std::int32_t>(d);
      out.offer(leaving_[d], ports_out(domain), [&] { return "ports out of " + domain_name(domain); });
    }
    return out.take();
  }

  /// Every byte that some domain lacks leaves one of its holders' domains at least once. So those that only domains of
  /// a set hold leave the set's ports at least once each; the certificate is that quotient of the best level set.
  Bound source_sets() const {
    std::map<std::vector<std::int32_t>, std::int64_t> bytes;  // by holders' domains, ascending
    for (const Bundle& bundle : plan_.bundles) {
      const RanksByDomain& wanted = domains_.of(bundle.destinations);
      const bool is_remote = std::any_of(wanted.domains.begin(), wanted.domains.end(),
                                         [&](std::int32_t d) { return !domains_.touches(bundle.sources, d); });
      if (!is_remote) continue;
      std::vector<std::int32_t> holders = domains_.of(bundle.sources).domains;
      std::sort(holders.begin(), holders.end());
      bytes[std::move(holders)] += bundle.size_bytes;
    }
    std::vector<Demand> demands;
    for (const auto& [holders, sum] : bytes) demands.push_back({sum, holders});
    std::vector<std::int64_t> capacities;
    for (std::size_t d = 0; d < machine_.domains.size(); ++d)
      capacities.push_back(ports_out(static_cast<std::int32_t>(d)));
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
  Bound rails() const {
    Largest out("LB6 rail");
    for (std::size_t d = 0; d < entering_.size(); ++d) {
      Sums in;
      for (const std::int32_t id : at(machine_.domains, d).ports) {
        const Machine::Port& port = at(machine_.ports, id);
        in[port.rail] += port.in.bytes_per_s();
      }
      std::int64_t rate = 0;
      for (const auto& [rail, mine] : in) {
        rate += std::min(mine, sent_by_others(static_cast<std::int32_t>(d), rail));
      }
      out.offer(entering_[d], rate, [&] { return "rails into " + domain_name(static_cast<std::int32_t>(d)); });
    }
    return out.take();
  }

  /// Of the ranks of a domain that share a port, those that need something receive it over their links or through the
  /// port; so the sum of what they need is at most the time times their links and the port once. (Not over the links
  /// alone, beyond one copy that came through a port: a plan may let the same byte in several times, and does where
  /// ports are faster than links.) All ranks of the domain together bound nothing beyond that: the quotient of sums is
  /// no larger than the largest of the quotients.
  Bound shared_ports() const {
    Largest out("LB7 domain links and ports");
    for (std::size_t d = 0; d < machine_.domains.size(); ++d) {
      const std::vector<std::int32_t>& ranks = at(machine_.domains, d).ranks;
      struct Sharers {
        std::int64_t needed = 0;
        std::int64_t links = 0;
        bool is_limited = true;
      };
      std::map<std::int32_t, Sharers> by_port;
      for (const std::int32_t rank : ranks) {
        const Machine::Gpu& gpu = at(machine_.gpus, rank);
        if (gpu.port < 0 || at(needed_, rank) == 0) continue;
        Sharers& sharers = by_port[gpu.port];
        sharers.needed += at(needed_, rank);
        if (ranks.size() == 1) continue;  // no links to anybody
        sharers.links += gpu.link.bytes_per_s();
        sharers.is_limited = sharers.is_limited && gpu.link.is_limited();
      }
      for (const auto& [port, sharers] : by_port) {
        if (!sharers.is_limited) continue;
        const auto domain = static_cast<std::int32_t>(d);
        out.offer(sharers.needed, sharers.links + reached_in(domain, port), [&, id = port] {
          return fmt::format("{} and links of its ranks, {}", at(machine_.ports, id).name, domain_name(domain));
        });
      }
    }
    return out.take();
  }

  /// What a rank needs and does not hold is written to its memory once, beside what it stages; what it needs and holds
  /// is read there and written there; and what nobody else holds is read there at least once for all others.
  Bound memory() const {
    Largest out("LB8 memory");
    for (std::int32_t r = 0; r < machine_.num_ranks(); ++r) {
      out.offer(at(needed_, r) + 2 * at(copied_, r) + at(read_, r), at(machine_.gpus, r).memory.bytes_per_s(),
                [&] { return machine_.describe(machine_.resource(ResourceKind::kMemory, r)); });
    }
    for (std::size_t d = 0; d < machine_.domains.size(); ++d) offer_memories(static_cast<std::int32_t>(d), &out);
    return out.take();
  }

  /// What comes to a rank over its domain's links is read in the memory of another of its ranks; only what comes
  /// through a port is not. So what all ranks of the domain need is written there and, but for what ports let in in
  /// that time, read there.
  void offer_memories(std::int32_t domain, Largest* out) const {
    std::int64_t bytes = 0;
    std::int64_t rate = 0;
    for (const std::int32_t rank : at(machine_.domains, domain).ranks) {
      const Link& memory = at(machine_.gpus, rank).memory;
      if (!memory.is_limited()) return;
      rate += memory.bytes_per_s();
      bytes += 2 * (at(needed_, rank) + at(copied_, rank));
    }
    for (const std::int32_t port : at(machine_.domains, domain).ports) rate += reached_in(domain, port);
    out->offer(bytes, rate, [&] { return "memories of " + domain_name(domain); });
  }

  /// LB2 over the ways from the ports to the ranks: a byte that comes into a domain comes to a rank with a port. Ranks
  /// that share a port have ways of their own, so their rates add up; one without a limit lets everything in.
  Bound pcie() const {
    Largest out("LB8 pcie");
    for (std::size_t d = 0; d < entering_.size(); ++d) {
      std::int64_t rate = 0;
      bool is_limited = true;
      for (const std::int32_t rank : at(machine_.domains, d).ranks) {
        if (at(machine_.gpus, rank).port < 0) continue;
        rate += at(machine_.gpus, rank).pcie.bytes_per_s();
        is_limited = is_limited && at(machine_.gpus, rank).pcie.bytes_per_s() > 0;
      }
      if (!is_limited) continue;
      out.offer(entering_[d], rate, [&] { return "pcie into " + domain_name(static_cast<std::int32_t>(d)); });
    }
    return out.take();
  }

  /// The best that prices prove (bounds/price_bound.h), from the loads.
  /// @param known_seconds by the other bounds
  Bound prices(double known_seconds) const {
    Bound out;
    out.name = "LB9 prices";
    const routing::Fabric fabric(machine_);
    std::vector<bounds::Piece> pieces;
    for (std::size_t b = 0; b < plan_.bundles.size(); ++b) {
      if (plan_.bundles[b].size_bytes > 0)
        pieces.push_back({static_cast<std::int32_t>(b), plan_.bundles[b].size_bytes});
    }
    std::vector<std::int64_t> copies(static_cast<std::size_t>(machine_.num_resources()));
    for_each_local_copy(plan_, [&](std::int32_t bundle, std::int32_t rank) {
      at(copies, machine_.resource(ResourceKind::kMemory, rank)) += 2 * at(plan_.bundles, bundle).size_bytes;
    });
    const bounds::Task task{plan_.bundles, domains_, pieces, copies};
    const bounds::Certificate found = bounds::certify(fabric, task, loads_, known_seconds);
    out.seconds = found.bound.seconds();
    if (out.seconds > 0) out.resource = dear(found.prices, fabric.capacities);
    return out;
  }

  /// The kinds of resources for which bytes pay, those of more than a tenth of all that can be paid, the most first.
  std::string dear(const std::vector<std::uint64_t>& prices, const std::vector<std::int64_t>& capacities) const {
    std::vector<std::pair<double, const char*>> kinds(kNumResourceKinds);
    double all = 0;
    for (std::size_t r = 0; r < prices.size(); ++r) {
      const double part = static_cast<double>(prices[r]) * static_cast<double>(capacities[r]);
      const ResourceKind kind = machine_.kind_of(static_cast<std::int32_t>(r));
      auto& [sum, its_name] = kinds[static_cast<std::size_t>(kind)];
      sum += part;
      its_name = name(kind);
      all += part;
    }
    std::stable_sort(kinds.begin(), kinds.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    std::string out;
    for (const auto& [sum, its_name] : kinds) {
      if (sum * 10 > all) out += (out.empty() ? "" : ", ") + std::string(its_name);
    }
    return out;
  }

  /// Something that has to cross takes the latencies of one port out and one port in, at least: the least of all ports,
  /// as any may be the one.
  Bound latency() const {
    Bound out;
    out.name = "LB10 latency";
    if (std::all_of(entering_.begin(), entering_.end(), [](std::int64_t bytes) { return bytes == 0; })) return out;
    std::int64_t least_in_ns = INT64_MAX;
    std::int64_t least_out_ns = INT64_MAX;
    for (const Machine::Port& port : machine_.ports) {
      least_in_ns = std::min<std::int64_t>(least_in_ns, port.in.latency_ns);
      least_out_ns = std::min<std::int64_t>(least_out_ns, port.out.latency_ns);
    }
    out.seconds = static_cast<double>(least_in_ns + least_out_ns) * 1e-9;
    out.resource = "one crossing of the network";
    return out;
  }

  const Plan& plan_;
  const Machine& machine_;
  const std::vector<std::int64_t>& loads_;
  DomainSets domains_;
  std::vector<std::int32_t> num_domains_of_;  // by port: whose ranks have it
  Sums sent_by_all_;
  std::vector<Sums> sent_by_domain_;
  std::vector<std::int64_t> needed_;  // by rank: what it needs and has not
  std::vector<std::int64_t> copied_;  // by rank: what it needs and has
  std::vector<std::int64_t> read_;    // by rank: what only it has, and others need
  PerDomain entering_;                // what nobody in the domain has
  PerDomain leaving_;                 // what only it holds and others need
};

}  // namespace

std::vector<Bound> find_bounds(const Plan& plan, const std::vector<std::int64_t>& loads) {
  return BoundFinder(plan, loads).run();
}

Bound largest(const std::vector<Bound>& bounds) {
  Bound out;
  for (const Bound& bound : bounds) {
    if (bound.seconds > out.seconds) out = bound;
  }
  return out;
}

}  // namespace reshard
