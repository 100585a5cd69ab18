// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/entry_order.h"

#include <algorithm>
#include <tuple>

#include "src/base/arithmetic.h"

namespace reshard::routing {
namespace {

std::uint32_t turned(std::int32_t number, std::uint32_t salt, std::size_t count) {
  return (static_cast<std::uint32_t>(number) + salt) % static_cast<std::uint32_t>(count);
}

/// The leaves or the pods in which somebody has or lacks the bytes, ranked.
class Regions {
 public:
  Regions(std::uint32_t salt, std::size_t count) : salt_(salt), count_(count) {}

  void add(std::int32_t number, bool is_held, std::uint64_t exit) { regions_.push_back({number, is_held, exit}); }

  /// Makes one of all that were added of a number.
  void merge() {
    std::stable_sort(regions_.begin(), regions_.end(),
                     [](const Region& a, const Region& b) { return a.number < b.number; });
    std::size_t count = 0;
    for (const Region& region : regions_) {
      if (count == 0 || regions_[count - 1].number != region.number) {
        regions_[count++] = region;
        continue;
      }
      Region& its = regions_[count - 1];
      its.is_held = its.is_held || region.is_held;
      its.exit = std::min(its.exit, region.exit);
    }
    regions_.resize(count);
  }

  /// Held ones first, then those of the cheapest exits.
  using Key = std::tuple<bool, std::uint64_t, std::uint32_t>;
  Key key(std::int32_t number) const {
    const auto found = std::lower_bound(regions_.begin(), regions_.end(), number,
                                        [](const Region& region, std::int32_t n) { return region.number < n; });
    return {!found->is_held, found->exit, turned(number + 1, salt_, count_ + 1)};
  }

 private:
  struct Region {
    std::int32_t number;
    bool is_held;
    std::uint64_t exit;
  };
  std::vector<Region> regions_;
  std::uint32_t salt_;
  std::size_t count_;
};

/// A domain to enter, with the cheapest exit of those who lack the bytes.
struct Entry {
  std::size_t place;
  LeafId leaf;
  PodId pod;
  std::uint64_t exit = kNoWay;
};

std::vector<Entry> entries_of(const Fabric& fabric, const Audience& audience, OwnPrices* prices) {
  std::vector<Entry> entries;
  const std::vector<Audience::Place>& places = audience.places();
  for (std::size_t p = 0; p < places.size(); ++p) {
    if (!places[p].holders.empty()) continue;
    Entry entry{p, LeafId(), PodId()};
    for (const std::int32_t rank : places[p].lacking) {
      const std::uint64_t exit = prices->port_out(RankId(rank));
      if (entry.leaf.valid() && exit >= entry.exit) continue;
      entry = {p, fabric.ranks[RankId(rank)].leaf, fabric.ranks[RankId(rank)].pod, exit};
    }
    entries.push_back(entry);
  }
  return entries;
}

void put_cheapest_first(const Fabric& fabric, const Audience& audience, OwnPrices* prices,
                        std::vector<std::size_t>* order) {
  std::uint64_t least = kNoWay;
  for (const Audience::Place& place : audience.places()) {
    for (const std::int32_t rank : place.holders) least = std::min(least, prices->port_out(RankId(rank)));
  }
  auto cheapest = order->end();
  for (auto entry = order->begin(); entry != order->end(); ++entry) {
    for (const std::int32_t number : audience.places()[*entry].lacking) {
      const RankId rank(number);
      if (!fabric.has_port(rank)) continue;
      const Fabric::Rank& its = fabric.ranks[rank];
      const std::uint64_t price = prices->port_out(rank) + prices->leaf_up(its.leaf) + prices->leaf_down(its.leaf) +
                                  prices->pod_up(its.pod) + prices->pod_down(its.pod) + kLevelPrice;
      if (price >= least) continue;
      least = price;
      cheapest = entry;
    }
  }
  if (cheapest != order->end()) std::rotate(order->begin(), cheapest, cheapest + 1);
}

}  // namespace

std::vector<std::size_t> order_of_entering(const Fabric& fabric, const Audience& audience, std::uint32_t salt,
                                           OwnPrices* prices) {
  const std::vector<Entry> entries = entries_of(fabric, audience, prices);
  std::vector<std::size_t> out;
  if (entries.size() < 2) {
    for (const Entry& entry : entries) out.push_back(entry.place);
    return out;
  }
  const std::vector<Audience::Place>& places = audience.places();
  Regions leaves(salt, fabric.machine.leaves.size());
  Regions pods(salt, fabric.machine.pods.size());
  for (const Audience::Place& place : places) {
    for (const std::int32_t rank : place.holders) {
      leaves.add(fabric.ranks[RankId(rank)].leaf, true, kNoWay);
      pods.add(fabric.ranks[RankId(rank)].pod, true, kNoWay);
    }
  }
  for (const Entry& entry : entries) {
    leaves.add(entry.leaf, false, entry.exit);
    pods.add(entry.pod, false, entry.exit);
  }
  leaves.merge();
  pods.merge();
  std::vector<std::pair<std::tuple<Regions::Key, Regions::Key, std::uint64_t, std::uint32_t>, std::size_t>> keys;
  for (const Entry& entry : entries) {
    const std::uint32_t tie = turned(static_cast<std::int32_t>(entry.place), salt, places.size());
    keys.emplace_back(std::tuple{pods.key(entry.pod), leaves.key(entry.leaf), entry.exit, tie}, entry.place);
  }
  std::sort(keys.begin(), keys.end());
  for (const auto& [unused, place] : keys) out.push_back(place);
  put_cheapest_first(fabric, audience, prices, &out);
  return out;
}

}  // namespace reshard::routing
