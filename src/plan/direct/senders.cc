// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Senders are chosen for pools: all that the holders of one set have to send. Not bundle by bundle, because what makes
// a rank busy is the sum over all bundles, and a choice that is even for each tensor need not be for the model (the
// stages of a trainer hold different layers). The pools are poured over their holders (water_fill). What is left is to
// cut bytes: the copies of a pool are laid end to end (Line) and each sender gets a piece as long as its share.
#include "src/plan/direct/senders.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "src/plan/line.h"
#include "src/plan/water_fill.h"

namespace reshard::direct {
namespace {

/// What the holders of one set have to send.
struct Pool {
  std::int32_t sources = 0;    ///< id in Plan::sets
  std::vector<Need> needs;     ///< of which each receiver gets a copy
  std::int64_t num_bytes = 0;  ///< of all copies
};

/// In the order in which their first need comes, so that every rank numbers them alike.
std::vector<Pool> pools_of(const Plan& plan, const Needs& needs) {
  std::vector<Pool> pools;
  std::vector<std::ptrdiff_t> pool_of_set(static_cast<std::size_t>(plan.sets.size()), -1);
  for (const Need& need : needs.all) {
    const Bundle& bundle = at(plan.bundles, need.bundle);
    std::ptrdiff_t& place = at(pool_of_set, bundle.sources);
    if (place < 0) {
      place = std::ssize(pools);
      pools.push_back({bundle.sources, {}, 0});
    }
    Pool& pool = at(pools, place);
    pool.needs.push_back(need);
    pool.num_bytes += bundle.size_bytes * std::ssize(needs.receivers.ranks(need.receivers));
  }
  return pools;
}

/// Ranks are equal, as nothing is known that tells them apart.
WaterFill fill(const Plan& plan, const std::vector<Pool>& pools, const Kept& kept) {
  std::vector<Demand> demands;
  for (const Pool& pool : pools) demands.push_back({pool.num_bytes, plan.sets.ranks(pool.sources)});
  return water_fill(demands, std::vector<std::int64_t>(static_cast<std::size_t>(plan.num_ranks), 1), kept.out_bytes);
}

class PoolCutter {
 public:
  PoolCutter(const Plan& plan, const Needs& needs, Sendings* out)
      : plan_(plan), needs_(needs), out_(*out), receivers_(static_cast<std::size_t>(needs.receivers.size()), -1) {}

  void cut(const Pool& pool, const std::vector<std::int64_t>& shares, std::int64_t tolerance) {
    const std::vector<std::int32_t>& senders = plan_.sets.ranks(pool.sources);
    if (senders.size() > 1) {
      divide(pool, senders, shares, tolerance);
      return;
    }
    for (const Need& need : pool.needs) {
      std::int32_t& receivers = at(receivers_, need.receivers);
      if (receivers < 0) receivers = out_.receivers.intern(needs_.receivers.ranks(need.receivers));
      out_.all.push_back({senders.front(), receivers, {need.bundle, 0, size_of(need)}});
    }
  }

 private:
  std::int64_t size_of(const Need& need) const { return at(plan_.bundles, need.bundle).size_bytes; }

  /// Rank by rank, each with its needs in order: what a rank gets lies together, so few senders serve it. Ranks that
  /// get the same from the same sender become one sending again.
  void divide(const Pool& pool, const std::vector<std::int32_t>& senders, const std::vector<std::int64_t>& shares,
              std::int64_t tolerance) {
    std::vector<std::pair<std::int32_t, std::size_t>> copies;  // (rank, need)
    for (std::size_t n = 0; n < pool.needs.size(); ++n) {
      for (const std::int32_t rank : needs_.receivers.ranks(pool.needs[n].receivers)) copies.emplace_back(rank, n);
    }
    std::sort(copies.begin(), copies.end());
    Line line(plan_);
    for (const auto& [rank, n] : copies) line.add({pool.needs[n].bundle, 0, size_of(pool.needs[n])}, rank);
    // By what a sending is, apart from its receivers: (need, begin, end, sender). In the order of needs, so that what
    // one rank gets from one sender stays in the order of the line.
    std::map<std::tuple<std::size_t, std::int64_t, std::int64_t, std::size_t>, std::vector<std::int32_t>> ranks_of;
    line.divide(shares, tolerance, [&](std::size_t sender, std::size_t index, const Range& range) {
      const auto& [rank, n] = copies[index];
      ranks_of[{n, range.begin, range.end, sender}].push_back(rank);
    });
    for (auto& [key, ranks] : ranks_of) {
      const auto& [n, begin, end, sender] = key;
      out_.all.push_back(
          {senders[sender], out_.receivers.intern(std::move(ranks)), {pool.needs[n].bundle, begin, end}});
    }
  }

  const Plan& plan_;
  const Needs& needs_;
  Sendings& out_;
  std::vector<std::int32_t> receivers_;  // by id in Needs::receivers, that in Sendings::receivers; -1: not yet there
};

}  // namespace

/// A sender deviates by at most one tolerance at each end of its share of each of its pools: 2 % of the level in all.
Sendings choose_senders(const Plan& plan, const Needs& needs, const Kept& kept) {
  Sendings out;
  const std::vector<Pool> pools = pools_of(plan, needs);
  const WaterFill filled = fill(plan, pools, kept);
  std::vector<std::int64_t> pools_of_rank(static_cast<std::size_t>(plan.num_ranks));
  for (const Pool& pool : pools) {
    for (const std::int32_t rank : plan.sets.ranks(pool.sources)) ++at(pools_of_rank, rank);
  }
  PoolCutter cutter(plan, needs, &out);
  for (std::size_t p = 0; p < pools.size(); ++p) {
    std::int64_t most_pools = 1;
    for (const std::int32_t rank : plan.sets.ranks(pools[p].sources)) {
      most_pools = std::max(most_pools, at(pools_of_rank, rank));
    }
    cutter.cut(pools[p], filled.shares[p], filled.level / (100 * most_pools));
  }
  return out;
}

}  // namespace reshard::direct
