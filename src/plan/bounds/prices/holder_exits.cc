// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/bounds/prices/holder_exits.h"

#include <algorithm>

#include "src/base/at.h"

namespace reshard::bounds {

using routing::Audience;
using routing::kNoWay;

HolderExits::HolderExits(const routing::Fabric& fabric, const routing::WayPrices& ways) : fabric_(fabric), ways_(ways) {
  for (const RankId rank : fabric.ranks.ids()) {
    if (!fabric.has_port(rank)) continue;
    const auto rail = static_cast<std::size_t>(fabric.ranks[rank].rail.value());
    if (rail >= with_port_.size()) with_port_.resize(rail + 1);
    ++with_port_[rail];
  }
}

std::uint64_t HolderExits::least(const Audience& audience) {
  to_reach_ = with_port_;
  for (const Audience::Place& place : audience.places()) {
    for (const std::int32_t rank : place.holders) {
      if (fabric_.has_port(RankId(rank))) --at(to_reach_, fabric_.ranks[RankId(rank)].rail);
    }
  }
  std::uint64_t out = kNoWay;
  std::uint64_t in = 0;
  for (const Audience::Place& place : audience.places()) {
    if (!place.holders.empty()) out = std::min(out, least_out(place));
    const bool has_links = fabric_.machine.domains[place.domain].ranks.size() > 1;
    for (const std::int32_t number : place.lacking) {
      const RankId rank(number);
      in += std::min(has_links ? ways_.link_in[rank] : kNoWay, ways_.port_in[rank]);
    }
  }
  return out < kNoWay ? out + in : 0;
}

/// By a link where somebody else of the domain does not hold the bytes, by a port where somebody behind the network
/// does not.
std::uint64_t HolderExits::least_out(const Audience::Place& place) {
  const std::vector<std::int32_t>& all = fabric_.machine.domains[place.domain].ranks;
  inside_.assign(with_port_.size(), 0);
  std::size_t holder = 0;
  for (const std::int32_t number : all) {
    const bool holds = holder < place.holders.size() && place.holders[holder] == number;
    holder += holds ? 1 : 0;
    if (!holds && fabric_.has_port(RankId(number))) ++at(inside_, fabric_.ranks[RankId(number)].rail);
  }
  std::uint64_t out = kNoWay;
  for (const std::int32_t number : place.holders) {
    const RankId rank(number);
    if (all.size() > place.holders.size()) out = std::min(out, ways_.link_out[rank]);
    if (!fabric_.has_port(rank)) continue;
    const RailId rail = fabric_.ranks[rank].rail;
    if (at(to_reach_, rail) > at(inside_, rail)) out = std::min(out, ways_.port_out[rank]);
  }
  return out;
}

}  // namespace reshard::bounds
