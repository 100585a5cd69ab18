// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/bounds/prices/few_receivers.h"

#include <algorithm>
#include <utility>

namespace reshard::bounds {

using routing::Audience;
using routing::kNoWay;

FewReceivers::FewReceivers(const routing::Fabric& fabric, const routing::WayPrices& ways)
    : fabric_(fabric), ways_(ways), cheapest_(fabric, ways), discount_(fabric.ranks.size()) {}

CheapestWays::ByRank FewReceivers::ways_from(std::span<const std::int32_t> ranks) {
  CheapestWays::ByRank least(fabric_.ranks.size(), kNoWay);
  for (const std::int32_t rank : ranks) least[RankId(rank)] = 0;
  cheapest_.spread(CheapestWays::Direction::kFrom, discount_, &least);
  return least;
}

std::uint64_t FewReceivers::least_in(RankId rank) const {
  const bool has_links = fabric_.machine.domains[fabric_.ranks[rank].domain].ranks.size() > 1;
  return std::min(has_links ? ways_.link_in[rank] : kNoWay, ways_.port_in[rank]);
}

/// Every arc enters one rank. So receivers that are not served pay the least that entering them costs, and for the
/// others they are cheaper to come by, by as much.
std::uint64_t FewReceivers::least(const Audience& audience) {
  std::uint64_t apart = 0;
  for (const Audience::Place& place : audience.places()) {
    for (const std::int32_t number : place.lacking) {
      discount_[RankId(number)] = least_in(RankId(number));
      apart += discount_[RankId(number)];
    }
  }
  const std::vector<RankId> served = choose(audience);
  for (const RankId rank : served) apart -= std::exchange(discount_[rank], 0);
  const std::uint64_t out = tree(audience, served) + apart;
  for (const Audience::Place& place : audience.places()) {
    for (const std::int32_t number : place.lacking) discount_[RankId(number)] = 0;
  }
  return out;
}

/// Those who are farthest from all holders.
std::vector<RankId> FewReceivers::choose(const Audience& audience) {
  std::vector<RankId> lacking;
  std::vector<std::int32_t> holders;
  for (const Audience::Place& place : audience.places()) {
    for (const std::int32_t number : place.lacking) lacking.emplace_back(number);
    holders.insert(holders.end(), place.holders.begin(), place.holders.end());
  }
  if (lacking.size() <= kMost) return lacking;
  const CheapestWays::ByRank least = ways_from(holders);
  std::stable_sort(lacking.begin(), lacking.end(), [&](RankId a, RankId b) { return least[a] > least[b]; });
  lacking.resize(kMost);
  return lacking;
}

std::uint64_t FewReceivers::tree(const Audience& audience, const std::vector<RankId>& receivers) {
  const std::size_t num_sets = std::size_t{1} << receivers.size();
  std::vector<std::uint64_t> from_holders(num_sets, kNoWay);
  from_holders[0] = 0;
  to_set_.resize(std::size_t{1} << kMost);
  for (std::size_t set = 1; set < num_sets; ++set) {
    CheapestWays::ByRank& least = to_set_[set];
    least.assign(fabric_.ranks.size(), kNoWay);
    for (std::size_t part = (set - 1) & set; part > 0; part = (part - 1) & set) {
      from_holders[set] = std::min(from_holders[set], from_holders[part] + from_holders[set ^ part]);
      for (const RankId rank : fabric_.ranks.ids()) {
        least[rank] = std::min(least[rank], to_set_[part][rank] + to_set_[set ^ part][rank]);
      }
    }
    for (std::size_t i = 0; i < receivers.size(); ++i) {
      if (set == std::size_t{1} << i) least[receivers[i]] = 0;
    }
    cheapest_.spread(CheapestWays::Direction::kTo, discount_, &least);
    for (const Audience::Place& place : audience.places()) {
      for (const std::int32_t rank : place.holders) {
        from_holders[set] = std::min(from_holders[set], least[RankId(rank)]);
      }
    }
  }
  return from_holders[num_sets - 1];
}

}  // namespace reshard::bounds
