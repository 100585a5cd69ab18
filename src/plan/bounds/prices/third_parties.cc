// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/bounds/prices/third_parties.h"

#include <algorithm>

namespace reshard::bounds {

using routing::kNoWay;

ThirdParties::ThirdParties(const routing::Fabric& fabric, const routing::WayPrices& ways, const Regions& regions,
                           const CheapestTails& tails)
    : excluded_in_(fabric.machine.domains.size(), -1),
      by_block_(static_cast<std::size_t>(regions.num_blocks)),
      by_region_(static_cast<std::size_t>(regions.num_regions)) {
  using Tier = CheapestTails::Tier;
  for (const Tier tier : {Tier::kLeaf, Tier::kPod, Tier::kCore}) of(tier).resize(tails.num_places(tier));
  const auto add = [](std::uint64_t price, DomainId domain, Entries* entries) {
    if (price < kNoWay) entries->push_back({price, domain});
  };
  const auto add_least = [](std::uint64_t price, DomainId domain, Entries* entries) {  // domains come one by one
    if (entries->empty() || entries->back().domain != domain) {
      entries->push_back({price, domain});
    } else {
      entries->back().price = std::min(entries->back().price, price);
    }
  };
  for (const DomainId domain : fabric.machine.domains.ids()) {
    std::uint64_t entry = kNoWay;
    std::uint64_t block = kNoWay;
    std::uint64_t region = kNoWay;
    for (const std::int32_t id : fabric.machine.domains[domain].ranks) {
      const RankId rank(id);
      if (!fabric.has_port(rank)) continue;
      const std::uint64_t in = ways.port_in[rank];
      const routing::Fabric::Rank& at = fabric.ranks[rank];
      const std::uint64_t from_pod = in + ways.leaf_down[at.leaf];
      add_least(in, domain, &of(Tier::kLeaf)[tails.place_of(Tier::kLeaf, rank)]);
      add_least(from_pod, domain, &of(Tier::kPod)[tails.place_of(Tier::kPod, rank)]);
      add_least(from_pod + ways.pod_down[at.pod], domain, &of(Tier::kCore)[tails.place_of(Tier::kCore, rank)]);
      entry = std::min(entry, in + tails.from_other_domain(rank));
      block = std::min(block, in + tails.from_other_block(rank));
      region = std::min(region, in + tails.from_other_region(rank));
    }
    add(entry, domain, &by_entry_);
    add(block, domain, &by_block_[static_cast<std::size_t>(regions.block[domain])]);
    add(region, domain, &by_region_[static_cast<std::size_t>(regions.region[domain])]);
  }
  const auto sort = [](Entries* entries) {
    std::sort(entries->begin(), entries->end(), [](const Entry& a, const Entry& b) { return a.price < b.price; });
  };
  sort(&by_entry_);
  for (Entries& entries : by_block_) sort(&entries);
  for (Entries& entries : by_region_) sort(&entries);
  for (std::vector<Entries>& places : by_place_) {
    for (Entries& entries : places) sort(&entries);
  }
}

std::uint64_t ThirdParties::enter_from(const CheapestTails& tails, CheapestTails::Tier first) const {
  std::uint64_t least = kNoWay;
  tails.for_each_place([&](CheapestTails::Tier tier, std::size_t place, std::uint64_t price) {
    if (tier >= first && price < kNoWay) least = std::min(least, price + cheapest(of(tier)[place]));
  });
  return least;
}

std::uint64_t ThirdParties::cheapest(const Entries& entries) const {
  for (const Entry& entry : entries) {
    if (excluded_in_[entry.domain] != bundle_) return entry.price;
  }
  return kNoWay;
}

}  // namespace reshard::bounds
