// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/best_exits.h"

#include <utility>

namespace reshard::routing {

BestExits::BestExits(const Fabric& fabric, OwnPrices* prices, std::function<std::uint64_t(RankId)> price_of)
    : fabric_(fabric), prices_(*prices), price_of_(std::move(price_of)) {
  for (const Fabric::Rank& rank : fabric.ranks) num_rails_ = std::max(num_rails_, rank.rail + 1);
  leaves_.resize(fabric.machine.leaves.size() * static_cast<std::size_t>(num_rails_));
  pods_.resize(fabric.machine.pods.size() * static_cast<std::size_t>(num_rails_));
  all_.resize(static_cast<std::size_t>(num_rails_));
}

void BestExits::begin(RankId first) {
  first_ = first;
  for (const Place place : used_leaves_) at(leaves_, place).clear();
  for (const Place place : used_pods_) at(pods_, place).clear();
  for (const Place place : used_rails_) at(all_, place).clear();
  used_leaves_.clear();
  used_pods_.clear();
  used_rails_.clear();
}

Offers& BestExits::open(std::vector<Offers>* heaps, std::vector<Place>* used, Place place) {
  Offers& heap = at(*heaps, place);
  if (heap.empty()) used->push_back(place);
  return heap;
}

std::uint32_t BestExits::tie(RankId rank) const {
  const std::int32_t place = rank - first_;
  return static_cast<std::uint32_t>(place < 0 ? place + fabric_.ranks.end_id() : place);
}

/// A heap above needs to know only when the best of one below has become cheaper.
void BestExits::add(RankId rank) {
  const Place leaf = leaf_place(rank);
  const Place pod = pod_place(rank);
  const auto is_best = [](const Offers& heap, const Offer& offer) { return heap.empty() || heap.top() > offer; };
  Offer offer{price_of_(rank), tie(rank), rank};
  Offers& in_leaf = open(&leaves_, &used_leaves_, leaf);
  const bool is_best_of_leaf = is_best(in_leaf, offer);
  in_leaf.push(offer);
  if (!is_best_of_leaf) return;
  offer = {offer.price + prices_.leaf_up(fabric_.ranks[rank].leaf), offer.tie, leaf};
  Offers& in_pod = open(&pods_, &used_pods_, pod);
  const bool is_best_of_pod = is_best(in_pod, offer);
  in_pod.push(offer);
  if (!is_best_of_pod) return;
  offer = {offer.price + prices_.pod_up(fabric_.ranks[rank].pod), offer.tie, pod};
  open(&all_, &used_rails_, fabric_.ranks[rank].rail).push(offer);
}

/// The cheapest of a heap that is not of the domain `but`. look(who, but) says what an offer costs now. One that costs
/// as much without the domain as with it is the best, as all below it cost more; another is set aside until a better
/// one is found or none can be.
template <typename Look>
BestExits::Exit BestExits::search(Offers* heap, DomainId but, const Look& look) {
  Exit best;
  std::vector<Offer> aside;
  while (!heap->empty() && heap->top().price < best.price) {
    const std::int32_t who = heap->top().who;
    const Exit now = look(who, DomainId());
    if (now.price > heap->top().price) {
      Offer offer = heap->pop();
      offer.price = now.price;
      if (now.price < kNoWay) heap->push(offer);
      continue;
    }
    const Exit allowed = but.valid() ? look(who, but) : now;
    if (allowed.price < best.price) best = allowed;
    if (allowed.price <= now.price) break;
    aside.push_back(heap->pop());
  }
  for (const Offer& offer : aside) heap->push(offer);
  return best;
}

BestExits::Exit BestExits::in_leaf(Place leaf, DomainId but) {
  return search(&at(leaves_, leaf), but, [&](std::int32_t rank, DomainId without) {
    if (without.valid() && fabric_.ranks[RankId(rank)].domain == without) return Exit{};
    return Exit{price_of_(RankId(rank)), RankId(rank)};
  });
}

BestExits::Exit BestExits::in_pod(Place pod, DomainId but) {
  return search(&at(pods_, pod), but, [&](std::int32_t leaf, DomainId without) {
    Exit exit = in_leaf(leaf, without);
    if (exit.rank.valid()) exit.price += prices_.leaf_up(fabric_.ranks[exit.rank].leaf);
    return exit;
  });
}

BestExits::Exit BestExits::in_all(Place rail, DomainId but) {
  return search(&at(all_, rail), but, [&](std::int32_t pod, DomainId without) {
    Exit exit = in_pod(pod, without);
    if (exit.rank.valid()) exit.price += prices_.pod_up(fabric_.ranks[exit.rank].pod);
    return exit;
  });
}

/// An exit on the receiver's own leaf is found again in the pod and in the whole, there with uplinks that it does not
/// pass, so it never wins there by mistake.
BestExits::Exit BestExits::best(RankId to, DomainId but) {
  const Fabric::Rank& at_end = fabric_.ranks[to];
  Exit best = in_leaf(leaf_place(to), but);
  const std::uint64_t into_leaf = prices_.leaf_down(at_end.leaf);
  const auto consider = [&](Exit exit, std::uint64_t down) {
    exit.price += down;
    if (exit.rank.valid() && exit.price < best.price) best = exit;
  };
  consider(in_pod(pod_place(to), but), into_leaf);
  consider(in_all(at_end.rail, but), into_leaf + prices_.pod_down(at_end.pod));
  return best;
}

}  // namespace reshard::routing
