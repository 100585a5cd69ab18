// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/domain_sets.h"

#include <algorithm>
#include <tuple>

namespace reshard {
namespace {

/// By domain, its place in the order. A domain in several blocks or pods stands where its first rank and its first port
/// are; that only makes a way through all of them longer, never wrong.
std::vector<std::int32_t> places(const Machine& machine) {
  const auto key = [&](std::int32_t d) {
    const Machine::Domain& domain = at(machine.domains, d);
    const std::int32_t block = at(machine.nodes, at(machine.gpus, domain.ranks.front()).node).block;
    const std::int32_t pod =
        domain.ports.empty() ? 0 : at(machine.leaves, at(machine.ports, domain.ports.front()).leaf).pod;
    return std::tuple{pod, block, d};
  };
  std::vector<std::tuple<std::int32_t, std::int32_t, std::int32_t>> keys;
  for (std::size_t d = 0; d < machine.domains.size(); ++d) keys.push_back(key(static_cast<std::int32_t>(d)));
  std::sort(keys.begin(), keys.end());
  std::vector<std::int32_t> place(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) at(place, std::get<2>(keys[i])) = static_cast<std::int32_t>(i);
  return place;
}

}  // namespace

std::ptrdiff_t RanksByDomain::find(std::int32_t domain, const std::vector<std::int32_t>& place_of_domain) const {
  const auto found =
      std::lower_bound(domains.begin(), domains.end(), at(place_of_domain, domain),
                       [&](std::int32_t d, std::int32_t place) { return at(place_of_domain, d) < place; });
  return found == domains.end() || *found != domain ? -1 : found - domains.begin();
}

/// Sorted by place, and stably, so that ranks stay ascending within a domain: what contains() and binary searches need.
DomainSets::DomainSets(const Machine& machine, const RankSets& sets) : place_of_domain_(places(machine)) {
  const auto place = [&](std::int32_t rank) { return at(place_of_domain_, at(machine.gpus, rank).domain); };
  views_.resize(static_cast<std::size_t>(sets.size()));
  for (std::int32_t id = 0; id < sets.size(); ++id) {
    RanksByDomain& view = at(views_, id);
    view.ranks = sets.ranks(id);
    std::stable_sort(view.ranks.begin(), view.ranks.end(),
                     [&](std::int32_t a, std::int32_t b) { return place(a) < place(b); });
    for (std::size_t i = 0; i < view.ranks.size(); ++i) {
      const std::int32_t domain = at(machine.gpus, view.ranks[i]).domain;
      if (!view.domains.empty() && view.domains.back() == domain) continue;
      view.domains.push_back(domain);
      view.first.push_back(static_cast<std::int32_t>(i));
    }
    view.first.push_back(static_cast<std::int32_t>(view.ranks.size()));
  }
}

}  // namespace reshard
