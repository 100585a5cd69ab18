// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Domain by domain: the bytes come into each by the cheapest port, spread in it, and from then on all of its ranks may
// send them on. Within a domain they go from who has them to the cheapest sender among those who want them, and from
// there to the rest, or by an idle rank, or once more over the network: whatever costs least.
#include "src/plan/routing/grow_tree.h"

#include <algorithm>
#include <limits>

#include "src/plan/routing/entry_order.h"

namespace reshard::routing {
namespace {

// Within a domain bytes go from who has them first over one more rank at most: after that any rank may be a sender, so
// that more hops gain nothing.
constexpr std::int8_t kMostInner = 1;
// From here on a way into a domain is dear enough to look for another through a third one. Where some looks have found
// nothing, the rest of the tree does without.
constexpr std::uint64_t kDear = Prices::kFullPrice / 16;
constexpr int kMostDetours = 4;

}  // namespace

TreeGrower::TreeGrower(const Fabric& fabric, const Uses& uses, const Prices& prices)
    : fabric_(fabric),
      uses_(uses),
      prices_(fabric, uses, prices),
      exits_(fabric, &prices_, [this](RankId rank) { return exit_price(rank); }),
      marks_(fabric.ranks.size()),
      havers_(fabric.machine.domains.size()),
      detours_(fabric, &prices_, &exits_),
      domain_marks_(fabric.machine.domains.size()) {}

void TreeGrower::settle(const Prices& prices) {
  detours_.choose_domains(prices, uses_);
}

std::uint32_t TreeGrower::tie(std::int32_t number, std::int32_t count) const {
  return (static_cast<std::uint32_t>(number) + salt_) % static_cast<std::uint32_t>(count);
}

/// What a byte pays to leave by the port of a rank; of one that has not got it, with the hop that brings it there.
std::uint64_t TreeGrower::exit_price(RankId rank) {
  const std::uint64_t out = prices_.port_out(rank);
  if (has(rank)) return out + kLevelPrice * static_cast<std::uint64_t>(marks_[rank].depth);
  return best_haver(fabric_.ranks[rank].domain).price + prices_.link_in(rank) + out +
         (mark(rank).wants ? kLevelPrice : staging_price_);
}

/// The cheapest to pass the bytes on within a domain. @pre the bytes have come there
Offer TreeGrower::best_haver(DomainId domain) {
  return havers_[domain].best([&](std::int32_t rank) {
    return prices_.link_out(RankId(rank)) + kLevelPrice * static_cast<std::uint64_t>(marks_[RankId(rank)].depth);
  });
}

/// Who wants the bytes in a holder's domain gets them from there at once, and so can send them on, or last, so that
/// they may also come back from another domain. Only the price of the tree can tell which is better.
TreePtr TreeGrower::grow(const Audience& audience, std::int64_t carried_bytes, std::uint32_t salt) {
  TreePtr early = grow(audience, carried_bytes, salt, false);
  if (early == nullptr || !may_come_back_) return early;
  const std::uint64_t price = price_;
  const TreePtr late = grow(audience, carried_bytes, salt, true);
  return late != nullptr && price_ < price ? late : early;
}

TreePtr TreeGrower::grow(const Audience& audience, std::int64_t carried_bytes, std::uint32_t salt,
                         bool holders_domains_last) {
  begin(audience, carried_bytes, salt);
  const std::vector<Audience::Place>& places = audience.places();
  open_holders(audience);
  for (const Audience::Place& place : places) {
    if (!place.holders.empty()) open(place.domain);
  }
  if (!holders_domains_last) {
    for (const Audience::Place& place : places) {
      if (place.holders.empty() || place.lacking.empty()) continue;
      serve(place);
      open(place.domain);
    }
  }
  std::vector<std::size_t> waiting = order_of_entering(fabric_, audience, salt_, &prices_);
  may_come_back_ = !waiting.empty() && serving_price_ > kLevelPrice;
  if (!enter_all(audience, std::move(waiting))) return nullptr;
  for (const Audience::Place& place : places) {
    if (!place.holders.empty() && holders_domains_last) serve(place);
  }
  return take_tree();
}

/// Who has the bytes by the part serves the others of its domain, and then who is left is entered.
TreePtr TreeGrower::grow_on(const Audience& audience, const Tree& part, std::int64_t carried_bytes,
                            std::uint32_t salt) {
  begin(audience, carried_bytes, salt);
  open_holders(audience);
  for (const Tree::Arc& arc : part.arcs) {
    const RankId dst(arc.dst);
    used_domains_.push_back(fabric_.ranks[dst].domain);
    add_arc(RankId(arc.src), dst);
    if (fabric_.has_port(dst)) exits_.add(dst);
  }
  const std::vector<Audience::Place>& places = audience.places();
  std::vector<bool> is_entered;
  for (const Audience::Place& place : places) {
    const auto is_there = [&](std::int32_t rank) { return has(RankId(rank)); };
    const std::vector<std::int32_t>& all = fabric_.machine.domains[place.domain].ranks;
    is_entered.push_back(std::any_of(all.begin(), all.end(), is_there));
    if (!is_entered.back()) continue;
    serve(place);
    open(place.domain);
  }
  std::vector<std::size_t> waiting = order_of_entering(fabric_, audience, salt_, &prices_);
  std::erase_if(waiting, [&](std::size_t p) { return is_entered[p]; });
  if (!enter_all(audience, std::move(waiting))) return nullptr;
  return take_tree();
}

TreePtr TreeGrower::take_tree() {
  Tree tree = has_detour_ ? without_idle_relays(tree_) : std::move(tree_);
  tree.arcs.shrink_to_fit();  // trees are most of the planner's memory
  return std::make_shared<const Tree>(std::move(tree));
}

void TreeGrower::open_holders(const Audience& audience) {
  for (const Audience::Place& place : audience.places()) {
    for (const std::int32_t rank : place.holders) {
      if (fabric_.has_port(RankId(rank))) exits_.add(RankId(rank));
    }
  }
}

/// A domain that nobody reaches yet may be reached by one that is entered later.
bool TreeGrower::enter_all(const Audience& audience, std::vector<std::size_t> waiting) {
  while (!waiting.empty()) {
    std::vector<std::size_t> left;
    std::size_t num_left = waiting.size();
    for (const std::size_t p : waiting) {
      if (!enter(audience.places()[p], num_left)) left.push_back(p);
      if (num_left > 1) --num_left;
    }
    if (left.size() == waiting.size()) {
      unreached_ = audience.places()[left.front()].domain;
      return false;
    }
    waiting = std::move(left);
  }
  return true;
}

void TreeGrower::begin(const Audience& audience, std::int64_t carried_bytes, std::uint32_t salt) {
  ++stamp_;
  salt_ = salt;
  tree_.arcs.clear();
  tree_.arcs.reserve(audience.num_lacking());
  prices_.begin(carried_bytes);
  price_ = 0;
  serving_price_ = 0;
  has_detour_ = false;
  staging_price_ = carried_bytes == 0 ? kLevelPrice : relay_price_;
  num_detours_left_ = carried_bytes == 0 ? kMostDetours : 0;
  const std::int32_t num_ranks = fabric_.ranks.end_id();
  exits_.begin(RankId(num_ranks - 1 - static_cast<std::int32_t>(salt % static_cast<std::uint32_t>(num_ranks))));
  for (const DomainId domain : used_domains_) havers_[domain].clear();
  used_domains_.clear();
  for (const Audience::Place& place : audience.places()) {
    used_domains_.push_back(place.domain);
    domain_marks_[place.domain] = stamp_;
    for (const std::int32_t rank : place.lacking) mark(RankId(rank)).wants = true;
    for (const std::int32_t rank : place.holders) {
      mark(RankId(rank)).has = true;
      havers_[place.domain].push({prices_.link_out(RankId(rank)), tie(rank, num_ranks), rank});
    }
  }
}

/// The rank at which the bytes come into a domain. Of two entries the dearer may be the better one, where it spreads
/// the bytes for less: all but the first hop from it go by the cheapest sender, so an entry pays what it costs more to
/// send than that one, and saves what it would have cost to serve it within. Not valid where no port is reached.
TreeGrower::Entry TreeGrower::best_entry(const Audience::Place& place) {
  std::uint64_t least_out = kNoWay;
  for (const std::int32_t rank : place.lacking) least_out = std::min(least_out, prices_.link_out(RankId(rank)));
  const RankId only(place.lacking.front());
  Entry best;
  std::int64_t best_price = std::numeric_limits<std::int64_t>::max();
  const auto consider = [&](RankId rank, bool wants) {
    if (!fabric_.has_port(rank)) return;
    const BestExits::Exit exit = exits_.best(rank);
    if (!exit.rank.valid()) return;
    const std::uint64_t network = exit.price + prices_.port_in(rank);
    auto price = static_cast<std::int64_t>(network);
    if (!wants) price += static_cast<std::int64_t>(staging_price_);
    if (place.lacking.size() == 1) {  // nothing is spread: only who does not want the bytes sends them on, to the one
      if (!wants) price += static_cast<std::int64_t>(prices_.link_out(rank) + prices_.link_in(only));
    } else {
      const std::uint64_t out = prices_.link_out(rank);
      if (wants) price -= static_cast<std::int64_t>(std::min(network, least_out + prices_.link_in(rank)));
      price += static_cast<std::int64_t>(out) - static_cast<std::int64_t>(std::min(out, least_out));
    }
    if (price >= best_price) return;
    best_price = price;
    best = {rank, exit};
  };
  const std::size_t first = tie(0, static_cast<std::int32_t>(place.lacking.size()));
  for (std::size_t i = 0; i < place.lacking.size(); ++i) {
    consider(RankId(place.lacking[(first + i) % place.lacking.size()]), true);
  }
  const std::vector<std::int32_t>& all = fabric_.machine.domains[place.domain].ranks;
  if (all.size() == place.lacking.size()) return best;
  if (best.rank.valid()) {
    // What it takes from the exit's port on. If that is less than what any way by an idle rank costs, none is better:
    // it would come from the same exit, but where rails are isolated.
    const std::uint64_t exit = fabric_.machine.rail_isolated ? 0 : exit_price(best.exit.rank);
    if (best.exit.price - exit + prices_.port_in(best.rank) <= staging_price_) return best;
  }
  const std::size_t first_idle = tie(0, static_cast<std::int32_t>(all.size()));
  for (std::size_t i = 0; i < all.size(); ++i) {
    const RankId rank(all[(first_idle + i) % all.size()]);
    if (!mark(rank).wants) consider(rank, false);
  }
  return best;
}

bool TreeGrower::enter(const Audience::Place& place, std::size_t num_left) {
  Entry entry = best_entry(place);
  if (num_detours_left_ > 0 || !entry.rank.valid()) {
    // A detour spares exits, and where rails are isolated the entry, too.
    const std::uint64_t price = entry.rank.valid() ? entry.exit.price + prices_.port_in(entry.rank) : kNoWay;
    const bool is_dear = (fabric_.machine.rail_isolated ? price : entry.exit.price) > kDear;
    if (is_dear && take_detour(fabric_.machine.domains[place.domain].ranks, price, num_left)) entry = best_entry(place);
  }
  if (!entry.rank.valid()) return false;
  add_crossing(entry.exit, entry.rank);
  serve(place);
  open(place.domain);
  return true;
}

/// Brings the bytes to a domain that has no use for them, where the way from there to some ranks is cheaper than any
/// other.
bool TreeGrower::take_detour(std::span<const std::int32_t> to, std::uint64_t price, std::size_t num_left) {
  const auto is_free = [&](DomainId domain) { return domain_marks_[domain] != stamp_; };
  const std::uint64_t least_gain = price < kNoWay ? 2 * kLevelPrice : 0;
  const Detours::Detour detour = detours_.find(to, price - least_gain, num_left, is_free);
  if (!detour.entry.valid()) {
    --num_detours_left_;
    return false;
  }
  const DomainId domain = fabric_.ranks[detour.entry].domain;
  domain_marks_[domain] = stamp_;
  used_domains_.push_back(domain);
  add_crossing(exits_.best(detour.entry), detour.entry);
  if (detour.exit != detour.entry) add_arc(detour.entry, detour.exit);
  open(domain);
  has_detour_ = true;
  return true;
}

/// Serves all in a domain that want the bytes and have not got them. @pre some rank of the domain has them
void TreeGrower::serve(const Audience::Place& place) {
  std::vector<Offer> left;
  for (const std::int32_t rank : place.lacking) {
    if (!has(RankId(rank))) left.push_back({prices_.link_out(RankId(rank)), tie(rank, fabric_.ranks.end_id()), rank});
  }
  std::sort(left.begin(), left.end(), [](const Offer& a, const Offer& b) { return b > a; });
  if (!left.empty()) relay_by_idle(place, left.size(), left.front().price);
  std::size_t num_left = left.size();
  for (const Offer& offer : left) {
    const RankId rank(offer.who);
    if (has(rank)) continue;  // it was on the way to another
    const Offer haver = best_haver(place.domain);
    const std::uint64_t link = haver.price + prices_.link_in(rank);
    const std::uint64_t port = prices_.port_in(rank);
    if (link > kDear && port < link) {  // cheap links keep the network free for others
      BestExits::Exit exit = exits_.best(rank, place.domain);
      const bool is_dear = exit.price + port > kDear;
      if (is_dear && num_detours_left_ > 0 &&
          take_detour({&offer.who, 1}, std::min(link, exit.price + port), num_left)) {
        if (has(rank)) continue;
        exit = exits_.best(rank, place.domain);
      }
      if (exit.rank.valid() && exit.price + port < link) {
        add_crossing(exit, rank);
        --num_left;
        continue;
      }
    }
    --num_left;
    serving_price_ = std::max(serving_price_, link);
    add_arc(RankId(haver.who), rank);
  }
}

/// Hands the bytes to a rank that does not want them, if it sends them on for less than those who have them or the
/// cheapest of those who want them. They come to it from who has them in the domain, or, where those are dear, over the
/// network.
void TreeGrower::relay_by_idle(const Audience::Place& place, std::size_t num_left, std::uint64_t other_out) {
  const std::vector<std::int32_t>& all = fabric_.machine.domains[place.domain].ranks;
  if (all.size() == place.lacking.size() + place.holders.size()) return;
  const Offer haver = best_haver(place.domain);
  const std::uint64_t count = num_left;
  const std::uint64_t without = std::min(count * haver.price, haver.price + (count - 1) * (other_out + kLevelPrice));
  const bool is_dear = haver.price > kDear;
  if (without <= haver.price + count * kLevelPrice && !is_dear) return;
  RankId best;
  BestExits::Exit best_exit;
  std::uint64_t best_price = without;
  for (const std::int32_t number : all) {
    const RankId rank(number);
    if (has(rank) || mark(rank).wants) continue;
    std::uint64_t way_in = haver.price + prices_.link_in(rank);
    BestExits::Exit exit;
    if (is_dear && fabric_.has_port(rank)) exit = exits_.best(rank, place.domain);
    const std::uint64_t crossing = exit.rank.valid() ? exit.price + prices_.port_in(rank) + staging_price_ : kNoWay;
    if (crossing >= way_in) exit = {};
    way_in = std::min(way_in, crossing);
    const std::uint64_t price = way_in + count * (prices_.link_out(rank) + kLevelPrice);
    if (price >= best_price) continue;
    best_price = price;
    best = rank;
    best_exit = exit;
  }
  if (!best.valid()) return;
  if (best_exit.rank.valid()) return add_crossing(best_exit, best);
  add_arc(RankId(haver.who), best);
}

/// From now on all ranks of the domain may send to others: those that have the bytes, and the rest with one more hop.
/// Not the rest where one that has them sends for less than that hop costs, and the downlinks of their own leaf and
/// pod, which only they and their neighbours reach without: they would be looked at for nothing.
void TreeGrower::open(DomainId domain) {
  std::uint64_t cheapest = kNoWay;
  for (const std::int32_t number : fabric_.machine.domains[domain].ranks) {
    const RankId rank(number);
    if (!has(rank) || !fabric_.has_port(rank)) continue;
    const Fabric::Rank& its = fabric_.ranks[rank];
    cheapest = std::min(cheapest, prices_.port_out(rank) + prices_.leaf_up(its.leaf) + prices_.pod_up(its.pod));
    if (marks_[rank].arc >= 0) exits_.add(rank);  // holders were there from the beginning
  }
  for (const std::int32_t number : fabric_.machine.domains[domain].ranks) {
    const RankId rank(number);
    if (has(rank) || !fabric_.has_port(rank)) continue;
    const Fabric::Rank& its = fabric_.ranks[rank];
    const std::uint64_t saved = cheapest + prices_.leaf_down(its.leaf) + prices_.pod_down(its.pod);
    if (saved > staging_price_ || fabric_.machine.rail_isolated) exits_.add(rank);
  }
}

void TreeGrower::add_crossing(const BestExits::Exit& exit, RankId dst) {
  if (!has(exit.rank)) {
    add_arc(RankId(best_haver(fabric_.ranks[exit.rank].domain).who), exit.rank);
    exits_.add(exit.rank);
  }
  add_arc(exit.rank, dst);
}

void TreeGrower::add_arc(RankId src, RankId dst) {
  uses_.for_each(src, dst, [&](std::int32_t resource) {
    price_ += prices_.of(resource);
    prices_.use(resource);
  });
  const Mark from = marks_[src];
  Mark& to = mark(dst);
  const DomainId domain = fabric_.ranks[dst].domain;
  const bool is_crossing = fabric_.ranks[src].domain != domain;
  to.has = true;
  to.arc = static_cast<std::int32_t>(tree_.arcs.size());
  to.depth = from.depth + 1;
  to.inner = is_crossing ? std::int8_t{0} : static_cast<std::int8_t>(from.inner + 1);
  tree_.arcs.push_back({src, dst, from.arc, !to.wants});
  if (to.inner <= kMostInner) {
    havers_[domain].push({prices_.link_out(dst) + kLevelPrice * static_cast<std::uint64_t>(to.depth),
                          tie(dst, fabric_.ranks.end_id()), dst});
  }
}

}  // namespace reshard::routing
