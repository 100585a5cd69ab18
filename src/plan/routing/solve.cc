// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// First each demand is given trees that spare what those before it have loaded. Then demands are visited again and
// again: bytes go from the dearest of a demand's trees to a cheaper one, as many as lower the potential most. The
// exponent of prices rises when a sweep over all gains little: low ones see the whole machine, high ones only what is
// nearly as busy as the busiest.
#include "src/plan/routing/solve.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "src/plan/bounds/prices/price_bound.h"
#include "src/plan/routing/cheapest_feeds.h"
#include "src/plan/routing/least_time.h"

namespace reshard::routing {
namespace {

constexpr int kLog2StartExponent = 3;
constexpr int kLog2FirstExponent = 4;
constexpr int kLog2LastExponent = 7;
// A tree that costs no more than the cheapest and this part of it, 1 / 100, is good enough.
constexpr std::uint64_t kGoodTreePart = 100;
// A sweep is worth another one if it gains this part of the time, 1 / 500.
constexpr std::int64_t kGainPart = 500;
// No step moves so few bytes that no resource feels more than this part of the time, 1 / 1024.
constexpr std::int64_t kStepPart = 1024;
constexpr int kMostBisections = 12;
// What a byte pays for a rank that only passes it on, which takes memory and copies. When the first trees grow so much
// that nearly all go directly to who wants them, as often that is as good as can be; later what a hop over something
// moderately busy costs.
constexpr std::uint64_t kFirstRelayPrice = 2 * Prices::kFullPrice;
constexpr std::uint64_t kRelayPrice = Prices::kFullPrice / 16;
// Counted in arcs, not in seconds: every rank must stop at the same plan.
constexpr std::int64_t kMostWork = 6'000'000;

struct Effort {
  std::int64_t parts;  // in which a demand is started
  int moves;           // most of a visit
};
constexpr std::size_t kManyDemands = 512;
// Of many demands the last ones, this part of all, 1 / 16, even out what the others have left: for them what is nearly
// as busy as the busiest is dear, as in the first sweep, which then often is not needed.
constexpr std::size_t kLastPart = 16;
Effort effort_for(std::size_t num_demands) {
  if (num_demands < 64) return {8, 16};
  if (num_demands < kManyDemands) return {2, 4};
  return {1, 2};
}

}  // namespace

Solver::Solver(const Plan& plan, const Fabric& fabric, const Uses& uses, const DomainSets& domains)
    : plan_(plan),
      fabric_(fabric),
      uses_(uses),
      domains_(domains),
      prices_(fabric),
      grower_(fabric, uses, prices_),
      count_(static_cast<std::size_t>(prices_.num_resources())) {}

void Solver::load(const Tree& tree, std::int64_t bytes) {
  tree.for_each_use(uses_, [&](std::int32_t resource) { prices_.add(resource, bytes); });
}

std::uint64_t Solver::price(const Tree& tree) const {
  std::uint64_t sum = 0;
  tree.for_each_use(uses_, [&](std::int32_t resource) { sum += prices_.of(resource); });
  return sum;
}

Status Solver::unreachable(const Demand& demand) const {
  const Machine& machine = fabric_.machine;
  const RankId to(machine.domains[grower_.unreached()].ranks.front());
  const RankId from(plan_.sets.ranks(at(plan_.bundles, demand.range.bundle).sources).front());
  return invalid_argument(fmt::format(
      "no port of node \"{}\" (rank {}) is reached from node \"{}\" (rank {}), which holds what it needs{}; give "
      "both a port{}",
      machine.nodes[machine.gpus[to].node].name, to.value(), machine.nodes[machine.gpus[from].node].name, from.value(),
      machine.rail_isolated ? ": the rails are isolated and they share none" : "",
      machine.rail_isolated ? " on the same rail" : ""));
}

Status Solver::start(Demand* demand, std::size_t number, std::int64_t num_parts) {
  const Audience audience(domains_, at(plan_.bundles, demand->range.bundle));
  std::int64_t left = demand->bytes();
  for (std::int64_t part = 0; part < num_parts && left > 0; ++part) {
    const std::int64_t bytes = ceil_div(left, num_parts - part);
    TreePtr tree = grower_.grow(audience, bytes, static_cast<std::uint32_t>(number + static_cast<std::size_t>(part)));
    if (tree == nullptr) return unreachable(*demand);
    add_share(demand, std::move(tree), bytes);
    left -= bytes;
  }
  return {};
}

void Solver::add_share(Demand* demand, TreePtr tree, std::int64_t bytes) {
  work_ += static_cast<std::int64_t>(tree->arcs.size());
  load(*tree, bytes);
  if (order_.size() > 1 && is_beyond_time(*tree)) settle_anew();
  const auto same = std::find_if(demand->shares.begin(), demand->shares.end(),
                                 [&](const Share& share) { return share.tree == tree || *share.tree == *tree; });
  if (same != demand->shares.end()) {
    same->bytes += bytes;
  } else {
    demand->shares.push_back({std::move(tree), bytes});
  }
}

/// Gives bytes the trees that they had: first those that reach everybody, and when these are loaded, of all demands,
/// those that must grow on. Bytes that had none go with most of the others.
Status Solver::start_from_former(Demand* demand, std::size_t number, bool is_complete) {
  if (demand->former.empty()) return {};
  const Audience audience(domains_, at(plan_.bundles, demand->range.bundle));
  std::vector<Share> parts;
  for (const Former& former : demand->former) {
    const std::int64_t bytes = former.range.end - former.range.begin;
    const auto same =
        std::find_if(parts.begin(), parts.end(), [&](const Share& share) { return share.tree == former.part; });
    if (same != parts.end()) {
      same->bytes += bytes;
    } else {
      parts.push_back({former.part, bytes});
    }
  }
  for (std::size_t i = 0; i < parts.size(); ++i) {
    TreePtr tree = parts[i].tree;
    const auto num_served = static_cast<std::size_t>(
        std::count_if(tree->arcs.begin(), tree->arcs.end(), [](const Tree::Arc& arc) { return !arc.to_staging; }));
    if ((num_served == audience.num_lacking()) != is_complete) continue;
    if (!is_complete) tree = grower_.grow_on(audience, *tree, parts[i].bytes, static_cast<std::uint32_t>(number + i));
    if (tree == nullptr) return unreachable(*demand);
    add_share(demand, std::move(tree), parts[i].bytes);
  }
  if (is_complete) return {};
  std::int64_t left = demand->bytes();
  for (const Share& share : demand->shares) left -= share.bytes;
  const auto largest = std::max_element(demand->shares.begin(), demand->shares.end(),
                                        [](const Share& a, const Share& b) { return a.bytes < b.bytes; });
  load(*largest->tree, left);
  largest->bytes += left;
  return {};
}

/// Fills changes_.
void Solver::find_changes(const Tree& from, const Tree& to) {
  changes_.clear();
  const auto count = [&](const Tree& tree, std::int64_t by) {
    tree.for_each_use(uses_, [&](std::int32_t resource) {
      changes_.push_back({resource, 0});
      at(count_, resource) += by;
    });
  };
  count(to, 1);
  count(from, -1);
  work_ += static_cast<std::int64_t>(to.arcs.size() + from.arcs.size());
  std::size_t num = 0;
  for (const Change& change : changes_) {
    std::int64_t& uses = at(count_, change.resource);
    if (uses != 0) changes_[num++] = {change.resource, uses};
    uses = 0;
  }
  changes_.resize(num);
}

/// Of the potential, where so many bytes have changed trees.
Wide Solver::slope(std::int64_t bytes) const {
  Wide sum = 0;
  for (const Change& change : changes_) {
    const std::int64_t load = prices_.load(change.resource) + change.uses * bytes;
    sum += Wide{change.uses} * static_cast<std::int64_t>(prices_.at_load(change.resource, load));
  }
  return sum;
}

/// How many bytes of a share should go along another tree instead, and what that is worth; none where no resource
/// would feel it.
Solver::Step Solver::best_step(const Share& from, const TreePtr& to) {
  find_changes(*from.tree, *to);
  if (changes_.empty() || slope(0) >= 0) return {};
  std::int64_t low = 0;
  std::int64_t high = from.bytes;
  if (slope(high) <= 0) {
    low = high;
  } else {
    for (int i = 0; i < kMostBisections && high - low > 1; ++i) {
      const std::int64_t middle = low + (high - low) / 2;
      (slope(middle) <= 0 ? low : high) = middle;
    }
  }
  Wide least = -1;
  const Time& time = prices_.time();
  for (const Change& change : changes_) {
    const Wide felt = Wide{time.bytes} * prices_.capacity(change.resource) /
                      (Wide{time.bytes_per_s} * kStepPart * std::abs(change.uses));
    if (least < 0 || felt < least) least = felt;
  }
  if (from.bytes - low < least && slope(from.bytes) < slope(0)) {
    Wide whole = 0;
    for (const Change& change : changes_) {
      const std::int64_t load = prices_.load(change.resource);
      whole += prices_.potential(change.resource, load) -
               prices_.potential(change.resource, load + change.uses * from.bytes);
    }
    if (whole > 0) low = from.bytes;
  }
  if (low < least && low < from.bytes) return {};
  Wide fall = 0;
  for (const Change& change : changes_) {
    const std::int64_t load = prices_.load(change.resource);
    fall += prices_.potential(change.resource, load) - prices_.potential(change.resource, load + change.uses * low);
  }
  return fall > 0 ? Step{to, low, fall} : Step{};
}

void Solver::move(Demand* demand, std::size_t from, const Step& step) {
  std::vector<Share>& shares = demand->shares;
  load(*shares[from].tree, -step.bytes);
  load(*step.to, step.bytes);
  shares[from].bytes -= step.bytes;
  const auto same = std::find_if(shares.begin(), shares.end(),
                                 [&](const Share& share) { return share.tree == step.to || *share.tree == *step.to; });
  if (same != shares.end()) {
    same->bytes += step.bytes;
  } else {
    shares.push_back({step.to, step.bytes});
  }
  if (shares[from].bytes == 0) shares.erase(shares.begin() + static_cast<std::ptrdiff_t>(from));
}

/// Moves bytes of one share to the best of: the cheapest tree in use, the cheapest there is, and one grown as if it
/// carried all of the share's bytes.
bool Solver::replace(Demand* demand, std::size_t worst, const TreePtr& grown, std::size_t cheapest,
                     std::uint32_t salt) {
  const Share share = demand->shares[worst];
  const Audience audience(domains_, at(plan_.bundles, demand->range.bundle));
  load(*share.tree, -share.bytes);
  const TreePtr spread = grower_.grow(audience, share.bytes, salt);
  load(*share.tree, share.bytes);
  work_ += static_cast<std::int64_t>(spread->arcs.size());
  Step best;
  if (cheapest != worst) best = best_step(share, demand->shares[cheapest].tree);
  for (const TreePtr& other : {spread, grown}) {
    const Step step = best_step(share, other);
    // A tree in use makes no new route, so another must be better by a tenth.
    if (step.fall * 10 > best.fall * 11) best = step;
  }
  if (best.bytes == 0) return false;
  move(demand, worst, best);
  return true;
}

/// One step of a demand; false if none of its trees can be bettered.
bool Solver::improve(Demand* demand, std::uint32_t salt) {
  const Audience audience(domains_, at(plan_.bundles, demand->range.bundle));
  TreePtr grown = grower_.grow(audience, 0, salt);
  const std::size_t num_ranks = grown->arcs.size() + audience.num_holders();
  if (num_ranks <= kMostFed) {
    grown = std::make_shared<const Tree>(with_cheapest_feeds(*grown, audience, fabric_, uses_, prices_));
    work_ += static_cast<std::int64_t>(num_ranks * num_ranks / 8);
  }
  work_ += static_cast<std::int64_t>(grown->arcs.size() * (1 + demand->shares.size()));
  std::vector<std::pair<std::uint64_t, std::size_t>> dearest;
  for (std::size_t s = 0; s < demand->shares.size(); ++s) dearest.emplace_back(price(*demand->shares[s].tree), s);
  std::sort(dearest.begin(), dearest.end(), std::greater<>());
  const std::uint64_t least = std::min(price(*grown), dearest.back().first);
  for (const auto& [cost, share] : dearest) {
    if (cost <= least + least / kGoodTreePart) return false;
    if (replace(demand, share, grown, dearest.back().second, salt)) return true;
  }
  return false;
}

/// Whether something that the tree uses takes longer than the time beside which prices are, by more than a sixteenth.
/// What takes much longer all costs the same, and the next trees would not spare it. (One demand alone is kept to the
/// least time by just that.)
bool Solver::is_beyond_time(const Tree& tree) const {
  const Time& time = prices_.time();
  const Time most{time.bytes + time.bytes / 16, time.bytes_per_s};
  bool is_beyond = false;
  tree.for_each_use(uses_, [&](std::int32_t resource) {
    is_beyond = is_beyond || most < Time{prices_.load(resource), prices_.capacity(resource)};
  });
  return is_beyond;
}

/// Prices are beside the busiest resource of now. That is found anew when as much was done as it costs to find it.
void Solver::settle_time() {
  if (work_ - settled_work_ >= prices_.num_resources()) settle_anew();
}

void Solver::settle_anew() {
  settled_work_ = work_;
  const Time busiest = prices_.busiest();
  prices_.set_time(busiest < start_time_ ? start_time_ : busiest);
  grower_.settle(prices_);
}

void Solver::keep_best(const std::vector<Demand>& demands) {
  const Time now = prices_.busiest();
  if (!best_.empty() && !(now < best_time_)) return;
  best_time_ = now;
  best_.resize(demands.size());
  for (std::size_t d = 0; d < demands.size(); ++d) best_[d] = demands[d].shares;
}

/// Whether the cheapest trees that there are may prove more at the prices of now than what is known: not if those in
/// use, which pay no less, do not. That is quickly seen.
bool Solver::may_raise_least_time(const std::vector<BaseLoad>& base, const std::vector<Demand>& demands) const {
  Wide cost = 0;
  Wide capacity = 0;
  for (const BaseLoad& given : base)
    cost += Wide{given.bytes} * static_cast<std::int64_t>(prices_.scarcity(given.resource));
  for (std::int32_t r = 0; r < prices_.num_resources(); ++r) {
    const auto price = static_cast<std::int64_t>(prices_.scarcity(r));
    if (price > 0) capacity += Wide{prices_.capacity(r)} * price;
  }
  for (const Demand& demand : demands) {
    std::uint64_t least = UINT64_MAX;
    for (const Share& share : demand.shares) {
      std::uint64_t sum = 0;
      share.tree->for_each_use(uses_, [&](std::int32_t resource) { sum += prices_.scarcity(resource); });
      least = std::min(least, sum);
    }
    cost += Wide{demand.bytes()} * static_cast<std::int64_t>(least);
  }
  // Products of them have to fit 128 bits.
  while (cost >> 62 != 0 || capacity >> 62 != 0) {
    cost = (cost >> 1) + 1;
    capacity >>= 1;
  }
  return cost * least_time_.bytes_per_s > capacity * least_time_.bytes;
}

/// Looks whether the prices of now prove a longer time than what is known so far.
void Solver::raise_least_time(const std::vector<BaseLoad>& base, const std::vector<Demand>& demands) {
  work_ += std::ssize(demands) + prices_.num_resources();
  if (!may_raise_least_time(base, demands)) return;
  std::vector<bounds::Piece> pieces;
  for (const Demand& demand : demands) pieces.push_back({demand.range.bundle, demand.bytes()});
  std::vector<std::int64_t> base_loads(static_cast<std::size_t>(prices_.num_resources()));
  for (const BaseLoad& given : base) at(base_loads, given.resource) += given.bytes;
  std::vector<std::uint64_t> prices;
  for (std::int32_t r = 0; r < prices_.num_resources(); ++r) prices.push_back(prices_.scarcity(r));
  const bounds::Task task{plan_.bundles, domains_, pieces, base_loads};
  const bounds::PriceBound bound = bounds::price_bound(fabric_, task, prices);
  // As a Time its two numbers have to fit 64 bits, and products of them 128.
  auto cost = bound.cost;
  auto capacity = bound.capacity;
  while (cost >> 62U != 0 || capacity >> 62U != 0) {
    cost >>= 1U;
    capacity = (capacity >> 1U) + 1;  // rounded to what proves less
  }
  const Time proved{static_cast<std::int64_t>(cost), static_cast<std::int64_t>(capacity)};
  if (least_time_ < proved) least_time_ = proved;
}

/// Whether no choice is better by much.
bool Solver::is_at_limit() const {
  return Wide{best_time_.bytes} * least_time_.bytes_per_s / (good_part_ + 1) * good_part_ <=
         Wide{least_time_.bytes} * best_time_.bytes_per_s;
}

void Solver::sweep(std::vector<Demand>* demands) {
  const int most_moves = effort_for(demands->size()).moves;
  for (const std::size_t d : order_) {
    if (work_ > kMostWork) return;
    settle_time();
    for (int i = 0; i < most_moves; ++i) {
      if (!improve(&(*demands)[d], static_cast<std::uint32_t>(d + static_cast<std::size_t>(i)))) break;
    }
    // In small problems a good moment passes quickly.
    if (demands->size() < 64) keep_best(*demands);
    if (is_at_limit()) return;
  }
}

/// Gives all demands their first trees, those that had none so many each. @pre none is loaded
Status Solver::start_all(std::vector<Demand>* demands, std::int64_t num_parts) {
  prices_.set_exponent(kLog2StartExponent);
  prices_.set_time(start_time_);
  grower_.settle(prices_);
  // Behind isolated rails few ranks are reached directly.
  grower_.set_relay_price(fabric_.machine.rail_isolated ? kRelayPrice : kFirstRelayPrice);
  work_ = 0;
  settled_work_ = 0;
  for (const std::size_t d : order_) RESHARD_TRY(start_from_former(&(*demands)[d], d, true));
  const std::size_t num_last = demands->size() >= kManyDemands ? demands->size() / kLastPart : 0;
  for (std::size_t i = 0; i < order_.size(); ++i) {
    const std::size_t d = order_[i];
    if (i + num_last == order_.size()) prices_.set_exponent(kLog2FirstExponent);
    settle_time();
    RESHARD_TRY(start_from_former(&(*demands)[d], d, false));
    if ((*demands)[d].shares.empty()) RESHARD_TRY(start(&(*demands)[d], d, num_parts));
  }
  best_.clear();
  keep_best(*demands);
  work_ = 0;
  settled_work_ = 0;
  prices_.set_exponent(kLog2FirstExponent);
  prices_.set_time(prices_.busiest());
  return {};
}

void Solver::unload(std::vector<Demand>* demands) {
  for (Demand& demand : *demands) {
    for (const Share& share : demand.shares) load(*share.tree, -share.bytes);
    demand.shares.clear();
  }
}

/// Starts anew with several trees for each demand. Where that takes longer it is the one tree that is kept.
Status Solver::start_in_parts(std::vector<Demand>* demands, std::int64_t num_parts) {
  const Time before = best_time_;
  const std::vector<std::vector<Share>> whole = best_;
  unload(demands);
  RESHARD_TRY(start_all(demands, num_parts));
  if (!(before < best_time_)) return {};
  unload(demands);
  for (std::size_t d = 0; d < demands->size(); ++d) {
    (*demands)[d].shares = whole[d];
    for (const Share& share : whole[d]) load(*share.tree, share.bytes);
  }
  best_.clear();
  keep_best(*demands);
  prices_.set_time(prices_.busiest());
  return {};
}

/// By falling size, so that the small fill what gaps the large have left. Of many demands those that few ranks of a
/// domain lack come first: their bytes have little choice of the port to come in by, and those that all of a domain
/// lack, which may come in by any of its ports, then fill the gaps between ports.
void Solver::find_order(const std::vector<Demand>& demands) {
  order_.resize(demands.size());
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  std::stable_sort(order_.begin(), order_.end(),
                   [&](std::size_t a, std::size_t b) { return demands[a].bytes() > demands[b].bytes(); });
  if (demands.size() < kManyDemands) return;
  const auto choice = [&](std::size_t d) {
    const RanksByDomain& wanted = domains_.of(at(plan_.bundles, demands[d].range.bundle).destinations);
    return wanted.ranks.size() / wanted.num_domains();
  };
  std::stable_sort(order_.begin(), order_.end(), [&](std::size_t a, std::size_t b) { return choice(a) < choice(b); });
}

Status Solver::solve(const std::vector<BaseLoad>& base, std::vector<Demand>* demands, std::int64_t good_part) {
  good_part_ = good_part;
  for (const BaseLoad& given : base) prices_.add(given.resource, given.bytes);
  find_order(*demands);
  start_time_ = least_time(plan_, fabric_, domains_, *demands);
  least_time_ = start_time_;
  // A tree for each demand, if that will do: the fewer there are, the fewer peers a rank has. Where few groups may be
  // open the bytes of few demands are under way at a time, and several trees of each keep more of the machine busy.
  const std::int64_t num_parts = effort_for(demands->size()).parts;
  const std::int64_t first_parts = plan_.options.open_groups > 0 ? num_parts : 1;
  RESHARD_TRY(start_all(demands, first_parts));
  if (num_parts > first_parts && !is_at_limit()) RESHARD_TRY(start_in_parts(demands, num_parts));
  if (!is_at_limit()) raise_least_time(base, *demands);
  grower_.set_relay_price(kRelayPrice);
  for (int e = kLog2FirstExponent; e <= kLog2LastExponent && work_ <= kMostWork && !is_at_limit();) {
    prices_.set_exponent(e);
    prices_.set_time(prices_.busiest());
    const Time before = best_time_;
    sweep(demands);
    keep_best(*demands);
    if (!is_at_limit()) raise_least_time(base, *demands);
    const Time wanted{before.bytes - before.bytes / kGainPart, before.bytes_per_s};
    if (!(best_time_ < wanted)) ++e;
  }
  for (std::size_t d = 0; d < demands->size(); ++d) (*demands)[d].shares = best_[d];
  best_.clear();
  return {};
}

}  // namespace reshard::routing
