// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/detours.h"

#include <algorithm>

namespace reshard::routing {
namespace {

// On large machines there are always some that are as good as the rest.
constexpr std::size_t kMostDomains = 16;

}  // namespace

void Detours::choose_domains(const Prices& prices, const Uses& uses) {
  const IndexedVector<DomainId, Machine::Domain>& all = fabric_.machine.domains;
  std::vector<std::pair<std::uint64_t, DomainId>> cheapest;
  for (const DomainId domain : all.ids()) {
    std::uint64_t in = kNoWay;
    std::uint64_t out = kNoWay;
    for (const std::int32_t number : all[domain].ranks) {
      const RankId rank(number);
      if (!fabric_.has_port(rank)) continue;
      in = std::min(in, prices.of(uses.of(rank).pcie_in) + prices.of(uses.of(rank).nic_in));
      out = std::min(out, prices.of(uses.of(rank).pcie_out) + prices.of(uses.of(rank).nic_out));
    }
    if (in < kNoWay) cheapest.emplace_back(in + out, domain);
  }
  const std::size_t count = std::min(kMostDomains, cheapest.size());
  std::partial_sort(cheapest.begin(), cheapest.begin() + static_cast<std::ptrdiff_t>(count), cheapest.end());
  domains_.clear();
  for (std::size_t i = 0; i < count; ++i) domains_.push_back(cheapest[i].second);
}

/// All ranks of the domain passed are reached by the same entry, but for those that are cheaper to enter directly.
void Detours::look(DomainId domain, std::span<const std::int32_t> to, std::size_t num_sharing, Detour* best) {
  const std::vector<std::int32_t>& ranks = fabric_.machine.domains[domain].ranks;
  std::vector<std::uint64_t> into(ranks.size(), kNoWay);
  RankId hub;
  std::uint64_t hub_price = kNoWay;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    const RankId rank(ranks[i]);
    if (!fabric_.has_port(rank)) continue;
    const BestExits::Exit exit = exits_.best(rank);
    if (!exit.rank.valid()) continue;
    into[i] = exit.price + prices_.port_in(rank);
    const std::uint64_t price = into[i] + prices_.link_out(rank);
    if (price >= hub_price) continue;
    hub_price = price;
    hub = rank;
  }
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    const RankId exit = RankId(ranks[i]);
    if (!fabric_.has_port(exit)) continue;
    RankId entry = exit;
    std::uint64_t reach = into[i];
    if (hub.valid() && hub != exit && hub_price + prices_.link_in(exit) < reach) {
      reach = hub_price + prices_.link_in(exit);
      entry = hub;
    }
    if (reach >= kNoWay) continue;
    const std::uint64_t out = reach / num_sharing + prices_.port_out(exit);
    if (out >= best->price) continue;
    for (const std::int32_t number : to) {
      const RankId last(number);
      if (!fabric_.reaches(exit, last)) continue;
      const Fabric::Rank& from = fabric_.ranks[exit];
      const Fabric::Rank& end = fabric_.ranks[last];
      std::uint64_t price = out + prices_.port_in(last);
      if (from.leaf != end.leaf) price += prices_.leaf_up(from.leaf) + prices_.leaf_down(end.leaf);
      if (from.pod != end.pod) price += prices_.pod_up(from.pod) + prices_.pod_down(end.pod);
      if (price < best->price) *best = {entry, exit, price};
    }
  }
}

}  // namespace reshard::routing
