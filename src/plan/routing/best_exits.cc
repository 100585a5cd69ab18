// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/best_exits.h"

#include <utility>

namespace reshard::routing {

BestExits::BestExits(const Fabric& fabric, OwnPrices* prices, std::function<std::uint64_t(RankId)> price_of)
    : fabric_(fabric), prices_(*prices), price_of_(std::move(price_of)), num_of_port_(fabric.machine.ports.size()) {
  for (const Fabric::Rank& rank : fabric.ranks) num_rails_ = std::max(num_rails_, rank.rail + 1);
  for (const RankId rank : fabric.ranks.ids()) {
    if (fabric.has_port(rank)) ++num_of_port_[fabric.machine.gpus[rank].port];
  }
  const auto num_rails = static_cast<std::size_t>(num_rails_);
  size(&ports_, fabric.machine.ports.size(), [&](RankId rank) { return fabric.machine.gpus[rank].port.value(); });
  size(&leaves_, fabric.machine.leaves.size() * num_rails, [&](RankId rank) { return leaf_place(rank); });
  size(&pods_, fabric.machine.pods.size() * num_rails, [&](RankId rank) { return pod_place(rank); });
  size(&all_, num_rails, [&](RankId rank) { return fabric.ranks[rank].rail.value(); });
}

template <typename PlaceOf>
void BestExits::size(Level* level, std::size_t num_places, const PlaceOf& place_of) {
  level->heaps.resize(num_places);
  level->domains.resize(num_places);
  std::vector<bool> is_known(num_places);
  for (const RankId rank : fabric_.ranks.ids()) {
    if (!fabric_.has_port(rank)) continue;
    const auto place = static_cast<std::size_t>(place_of(rank));
    DomainId& its = level->domains[place];
    if (!is_known[place]) {
      its = fabric_.ranks[rank].domain;
    } else if (its != fabric_.ranks[rank].domain) {
      its = DomainId();
    }
    is_known[place] = true;
  }
}

void BestExits::clear(Level* level) {
  for (const Place place : level->used) at(level->heaps, place).clear();
  level->used.clear();
}

void BestExits::begin(RankId first) {
  first_ = first;
  for (Level* level : {&ports_, &leaves_, &pods_, &all_}) clear(level);
}

bool BestExits::push(Level* level, Place place, const Offer& offer) {
  Offers& heap = at(level->heaps, place);
  if (heap.empty()) level->used.push_back(place);
  const bool is_best = heap.empty() || heap.top() > offer;
  heap.push(offer);
  return is_best;
}

std::uint32_t BestExits::tie(RankId rank) const {
  const std::int32_t place = rank - first_;
  return static_cast<std::uint32_t>(place < 0 ? place + fabric_.ranks.end_id() : place);
}

/// A heap above needs to know only when the best of one below has become cheaper.
void BestExits::add(RankId rank) {
  const Fabric::Rank& its = fabric_.ranks[rank];
  const PortId port = fabric_.machine.gpus[rank].port;
  Offer offer{price_of_(rank), tie(rank), rank};
  if (num_of_port_[port] > 1) {
    const std::uint64_t of_port = prices_.nic_out(rank);
    if (!push(&ports_, port, {offer.price - of_port, offer.tie, rank})) return;
    offer.who = fabric_.ranks.end_id() + port;
  }
  if (!push(&leaves_, leaf_place(rank), offer)) return;
  offer = {offer.price + prices_.leaf_up(its.leaf), offer.tie, leaf_place(rank)};
  if (!push(&pods_, pod_place(rank), offer)) return;
  push(&all_, its.rail, {offer.price + prices_.pod_up(its.pod), offer.tie, pod_place(rank)});
}

/// The cheapest at a place that is not of the domain `but`. look(who, but) says what an offer costs now. One that costs
/// as much without the domain as with it is the best, as all below it cost more; another is set aside until a better
/// one is found or none can be.
template <typename DomainOf, typename Look>
BestExits::Exit BestExits::search(Level* level, Place place, DomainId but, std::uint64_t most,
                                  const DomainOf& domain_of, const Look& look) {
  if (but.valid() && at(level->domains, place) == but) return {};
  Offers& heap = at(level->heaps, place);
  Exit best{most, RankId()};
  std::vector<Offer> aside;
  while (!heap.empty() && heap.top().price < best.price) {
    const std::int32_t who = heap.top().who;
    if (but.valid() && domain_of(who) == but) {
      aside.push_back(heap.pop());
      continue;
    }
    const Exit now = look(who, DomainId());
    if (now.price > heap.top().price) {
      Offer offer = heap.pop();
      offer.price = now.price;
      if (now.price < kNoWay) heap.push(offer);
      continue;
    }
    const Exit allowed = but.valid() ? look(who, but) : now;
    if (allowed.price < best.price) best = allowed;
    if (allowed.price <= now.price) break;
    aside.push_back(heap.pop());
  }
  for (const Offer& offer : aside) heap.push(offer);
  return best.rank.valid() ? best : Exit{};
}

/// Without what the port itself costs.
BestExits::Exit BestExits::in_port(PortId port, DomainId but) {
  return search(
      &ports_, port, but, kNoWay, [&](std::int32_t rank) { return fabric_.ranks[RankId(rank)].domain; },
      [&](std::int32_t rank, DomainId) {
        return Exit{price_of_(RankId(rank)) - prices_.nic_out(RankId(rank)), RankId(rank)};
      });
}

BestExits::Exit BestExits::in_leaf(Place leaf, DomainId but, std::uint64_t most) {
  const std::int32_t num_ranks = fabric_.ranks.end_id();
  return search(
      &leaves_, leaf, but, most,
      [&](std::int32_t who) {
        return who < num_ranks ? fabric_.ranks[RankId(who)].domain : at(ports_.domains, who - num_ranks);
      },
      [&](std::int32_t who, DomainId without) {
        if (who < num_ranks) return Exit{price_of_(RankId(who)), RankId(who)};
        Exit exit = in_port(PortId(who - num_ranks), without);
        if (exit.rank.valid()) exit.price += prices_.nic_out(exit.rank);
        return exit;
      });
}

/// At a place whose offers are its parts, each with what the way up out of it costs.
template <typename LookInto, typename UpFrom>
BestExits::Exit BestExits::in_parts(Level* level, Place place, DomainId but, std::uint64_t most, const Level& parts,
                                    const LookInto& look_into, const UpFrom& up_from) {
  return search(
      level, place, but, most, [&](Place part) { return at(parts.domains, part); },
      [&](Place part, DomainId without) {
        Exit exit = look_into(part, without);
        if (exit.rank.valid()) exit.price += up_from(fabric_.ranks[exit.rank]);
        return exit;
      });
}

BestExits::Exit BestExits::in_pod(Place pod, DomainId but, std::uint64_t most) {
  return in_parts(
      &pods_, pod, but, most, leaves_, [&](Place leaf, DomainId without) { return in_leaf(leaf, without); },
      [&](const Fabric::Rank& its) { return prices_.leaf_up(its.leaf); });
}

BestExits::Exit BestExits::in_all(Place rail, DomainId but, std::uint64_t most) {
  return in_parts(
      &all_, rail, but, most, pods_, [&](Place pod, DomainId without) { return in_pod(pod, without); },
      [&](const Fabric::Rank& its) { return prices_.pod_up(its.pod); });
}

/// An exit on the receiver's own leaf is found again in the pod and in the whole, there with uplinks that it does not
/// pass, so it never wins there by mistake.
BestExits::Exit BestExits::best(RankId to, DomainId but) {
  const Fabric::Rank& at_end = fabric_.ranks[to];
  Exit best = in_leaf(leaf_place(to), but);
  const auto consider = [&](std::uint64_t down, const auto& look) {
    if (down >= best.price) return;
    const Exit exit = look(best.price - down);
    if (exit.rank.valid()) best = {exit.price + down, exit.rank};
  };
  const std::uint64_t into_leaf = prices_.leaf_down(at_end.leaf);
  consider(into_leaf, [&](std::uint64_t most) { return in_pod(pod_place(to), but, most); });
  consider(into_leaf + prices_.pod_down(at_end.pod),
           [&](std::uint64_t most) { return in_all(at_end.rail, but, most); });
  return best;
}

}  // namespace reshard::routing
