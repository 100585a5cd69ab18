// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// LB5. A region is a set of whole domains, so bytes get into and out of it over the network only, and what comes from a
// region into another passes the switches' uplinks out of the one and into the other, at least once.
#include "src/plan/bounds/region_bound.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <utility>
#include <vector>

namespace reshard {
namespace {

class RegionBound {
 public:
  RegionBound(const Plan& plan, const DomainSets& domains)
      : plan_(plan), machine_(*plan.options.machine), domains_(domains), is_used_(machine_.ports.size()) {
    for (const Machine::Domain& domain : machine_.domains) {
      for (const std::int32_t port : domain.ports) is_used_[static_cast<std::size_t>(port)] = true;
    }
  }

  Bound of_blocks() const { return bound_of("LB5 leaf", blocks(), ResourceKind::kLeafUp); }
  Bound of_pods() const { return bound_of("LB5 pod", pods(), ResourceKind::kPodUp); }

 private:
  using PerRegion = std::vector<std::int64_t>;
  using Sums = std::map<std::int32_t, std::int64_t>;  // bytes per second by rail

  /// Sets of domains behind the same switches: by domain, -1 where a domain is behind none alone. A block is what hangs
  /// on the same leaves, all rails of it together, as a byte may come by any of them.
  std::vector<std::int32_t> blocks() const {
    return regions_by([&](std::int32_t rank) { return at(machine_.nodes, at(machine_.gpus, rank).node).block; });
  }
  std::vector<std::int32_t> pods() const {
    return regions_by([&](std::int32_t rank) {
      const std::int32_t port = at(machine_.gpus, rank).port;
      return port < 0 ? -1 : at(machine_.leaves, at(machine_.ports, port).leaf).pod;
    });
  }
  std::vector<std::int32_t> regions_by(const std::function<std::int32_t(std::int32_t)>& region_of) const {
    std::vector<std::int32_t> out;
    for (const Machine::Domain& domain : machine_.domains) {
      std::int32_t region = -1;
      for (const std::int32_t rank : domain.ranks) {
        const std::int32_t its = region_of(rank);
        if (its < 0 || its == region) continue;
        // A domain across two regions joins them by its own links: neither has a bound.
        if (region >= 0) return std::vector<std::int32_t>(machine_.domains.size(), -1);
        region = its;
      }
      out.push_back(region);
    }
    return out;
  }

  /// Ports that can reach each other have one rail here, where rails are joined all of them.
  std::int32_t rail_of(const Machine::Port& port) const { return machine_.rail_isolated ? port.rail.value() : 0; }

  /// Bytes per second into and out of a region, by rail.
  struct RegionRates {
    Sums in;
    Sums out;
  };

  /// A leaf carries no more than its uplink does, and no more than those of its ports that some rank has: leaves of
  /// ports that nobody uses carry nothing. With limits on the leaves' sums for pods, which have uplinks of their own.
  std::vector<RegionRates> region_rates(ResourceKind kind, std::size_t num_regions) const {
    std::vector<RegionRates> of_leaf(machine_.leaves.size());
    for (std::size_t p = 0; p < machine_.ports.size(); ++p) {
      if (!is_used_[p]) continue;
      const Machine::Port& port = at(machine_.ports, p);
      at(of_leaf, port.leaf).in[rail_of(port)] += port.in.bytes_per_s();
      at(of_leaf, port.leaf).out[rail_of(port)] += port.out.bytes_per_s();
    }
    const auto limit = [](const Link& link, Sums* sums) {
      for (auto& [rail, rate] : *sums) rate = link.is_limited() ? std::min(rate, link.bytes_per_s()) : rate;
    };
    std::vector<RegionRates> out(num_regions);
    for (std::size_t l = 0; l < of_leaf.size(); ++l) {
      const Machine::Leaf& leaf = at(machine_.leaves, l);
      const std::int32_t region = kind == ResourceKind::kPodUp ? leaf.pod.value() : leaf.block;
      if (region >= static_cast<std::int32_t>(num_regions)) continue;
      limit(leaf.down, &of_leaf[l].in);
      limit(leaf.up, &of_leaf[l].out);
      for (const auto& [rail, rate] : of_leaf[l].in) at(out, region).in[rail] += rate;
      for (const auto& [rail, rate] : of_leaf[l].out) at(out, region).out[rail] += rate;
    }
    if (kind != ResourceKind::kPodUp) return out;
    for (std::size_t p = 0; p < std::min(num_regions, machine_.pods.size()); ++p) {
      limit(at(machine_.pods, p).down, &out[p].in);
      limit(at(machine_.pods, p).up, &out[p].out);
    }
    return out;
  }

  /// What gets into a region in a second, and out of it: by rail, no more than the others send, or take.
  std::pair<PerRegion, PerRegion> uplinks(ResourceKind kind, std::size_t num_regions) const {
    const std::vector<RegionRates> rates = region_rates(kind, num_regions);
    RegionRates all;
    for (const RegionRates& region : rates) {
      for (const auto& [rail, rate] : region.in) all.in[rail] += rate;
      for (const auto& [rail, rate] : region.out) all.out[rail] += rate;
    }
    PerRegion ins;
    PerRegion outs;
    for (std::size_t r = 0; r < num_regions; ++r) {
      std::int64_t in = 0;
      std::int64_t out = 0;
      // A rail that a leaf has ports of has both directions there.
      for (const auto& [rail, rate] : rates[r].in) in += std::min(rate, all.out.at(rail) - rates[r].out.at(rail));
      for (const auto& [rail, rate] : rates[r].out) out += std::min(rate, all.in.at(rail) - rates[r].in.at(rail));
      if (kind == ResourceKind::kPodUp && r < machine_.pods.size()) {
        const Machine::Pod& pod = at(machine_.pods, r);
        if (pod.down.is_limited()) in = std::min(in, pod.down.bytes_per_s());
        if (pod.up.is_limited()) out = std::min(out, pod.up.bytes_per_s());
      }
      ins.push_back(in);
      outs.push_back(out);
    }
    return {ins, outs};
  }

  /// The larger of two bounds for each region: what is needed inside and held nowhere inside, over the links down into
  /// it, and what only it holds and some other region needs, over those up out of it.
  Bound bound_of(const char* name, const std::vector<std::int32_t>& region_of, ResourceKind kind) const {
    Bound out;
    out.name = name;
    const std::int32_t last = region_of.empty() ? -1 : *std::max_element(region_of.begin(), region_of.end());
    if (last < 0) return out;
    const auto count = static_cast<std::size_t>(last) + 1;
    PerRegion in(count);
    PerRegion leaving(count);
    const auto touched = [&](std::int32_t set) {
      std::vector<std::int32_t> regions;
      for (const std::int32_t domain : domains_.of(set).domains) {
        if (at(region_of, domain) >= 0) regions.push_back(at(region_of, domain));
      }
      std::sort(regions.begin(), regions.end());
      regions.erase(std::unique(regions.begin(), regions.end()), regions.end());
      return regions;
    };
    std::vector<std::vector<std::int32_t>> of_set;
    for (std::int32_t id = 0; id < plan_.sets.size(); ++id) of_set.push_back(touched(id));
    for (const Bundle& bundle : plan_.bundles) {
      const std::vector<std::int32_t>& held = at(of_set, bundle.sources);
      bool is_remote = false;
      for (const std::int32_t region : at(of_set, bundle.destinations)) {
        if (std::binary_search(held.begin(), held.end(), region)) continue;
        at(in, region) += bundle.size_bytes;
        is_remote = true;
      }
      if (is_remote && held.size() == 1) at(leaving, held.front()) += bundle.size_bytes;
    }
    const auto [downs, ups] = uplinks(kind, count);
    const char* what = kind == ResourceKind::kPodUp ? "pod" : "block";
    const auto offer = [&](std::int64_t bytes, std::int64_t bytes_per_s, const char* way, std::size_t region) {
      if (bytes == 0 || bytes_per_s == 0) return;
      const double seconds = static_cast<double>(bytes) / static_cast<double>(bytes_per_s);
      if (seconds <= out.seconds) return;
      out.seconds = seconds;
      out.resource = fmt::format("uplinks {} {} {}", way, what, region);
    };
    for (std::size_t r = 0; r < count; ++r) {
      offer(in[r], downs[r], "into", r);
      offer(leaving[r], ups[r], "out of", r);
    }
    return out;
  }

  const Plan& plan_;
  const Machine& machine_;
  const DomainSets& domains_;
  std::vector<bool> is_used_;  // by port: whether a rank has it
};

}  // namespace

Bound leaf_bound(const Plan& plan, const DomainSets& domains) {
  return RegionBound(plan, domains).of_blocks();
}

Bound pod_bound(const Plan& plan, const DomainSets& domains) {
  return RegionBound(plan, domains).of_pods();
}

}  // namespace reshard
