// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The advice is an assignment problem: each destination rank has a place in the layout (what it must have afterwards),
// and ranks may change places if their server lets them. cost[place][rank] is what would have to move to that rank if
// it took that place, and the cheapest perfect matching of places and ranks is the best that renaming ranks can do. The
// plan itself is not changed: servers number their ranks, not we.
#include "src/plan/report/advice.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/plan/report/assignment.h"

namespace reshard {
namespace {

class Adviser {
 public:
  explicit Adviser(const Plan& plan) : plan_(plan) {}

  Result<Advice> run() {
    find_ranks();
    const std::size_t count = out_.ranks.size();
    if (count > static_cast<std::size_t>(kMostAdvisedRanks)) {
      return Status(RESHARD_ERR_NOT_SUPPORTED,
                    fmt::format("advice is for at most {} destination ranks; there are {}", kMostAdvisedRanks, count));
    }
    moved_.assign(count * count, 0);
    entering_.assign(count * count, 0);
    for (const Bundle& bundle : plan_.bundles) add(bundle);
    std::vector<std::int64_t> cost(moved_.size());
    for (std::size_t i = 0; i < cost.size(); ++i) cost[i] = moved_[i] + entering_[i];
    const std::vector<std::int32_t> best = assign(cost, static_cast<std::int32_t>(count));
    for (std::size_t place = 0; place < count; ++place) {
      const std::size_t now = place * count + place;
      const std::size_t then = place * count + static_cast<std::size_t>(best[place]);
      out_.moved_bytes_now += moved_[now];
      out_.moved_bytes_best += moved_[then];
      out_.network_bytes_now += entering_[now];
      out_.network_bytes_best += entering_[then];
    }
    out_.takes.resize(count);
    // `best` is by place; advice is by rank.
    for (std::size_t place = 0; place < count; ++place) at(out_.takes, best[place]) = out_.ranks[place];
    return std::move(out_);
  }

 private:
  /// Numbers the ranks that want something: others have no place to give or take.
  void find_ranks() {
    place_.assign(static_cast<std::size_t>(plan_.num_ranks), -1);
    for (const Bundle& bundle : plan_.bundles) {
      for (const std::int32_t rank : plan_.sets.ranks(bundle.destinations)) at(place_, rank) = 0;
    }
    for (std::int32_t rank = 0; rank < plan_.num_ranks; ++rank) {
      if (at(place_, rank) < 0) continue;
      at(place_, rank) = static_cast<std::ptrdiff_t>(out_.ranks.size());
      out_.ranks.push_back(rank);
    }
  }

  /// What the bundle costs in every place that needs it, by the rank that takes the place. Bytes that also enter a
  /// domain count in both sums, and so twice in the cost: the network is what is scarce.
  void add(const Bundle& bundle) {
    const std::size_t count = out_.ranks.size();
    const Machine* machine = plan_.options.machine.get();
    std::vector<bool> has_domain(machine == nullptr ? 0 : machine->domains.size());
    if (machine != nullptr) {
      for (const std::int32_t rank : plan_.sets.ranks(bundle.sources)) {
        has_domain[static_cast<std::size_t>(at(machine->gpus, rank).domain)] = true;
      }
    }
    for (const std::int32_t wanted : plan_.sets.ranks(bundle.destinations)) {
      const std::size_t row = static_cast<std::size_t>(at(place_, wanted)) * count;
      for (std::size_t i = 0; i < count; ++i) {
        const std::int32_t rank = out_.ranks[i];
        if (plan_.sets.contains(bundle.sources, rank)) continue;
        moved_[row + i] += bundle.size_bytes;
        if (machine == nullptr || has_domain[static_cast<std::size_t>(at(machine->gpus, rank).domain)]) continue;
        entering_[row + i] += bundle.size_bytes;
      }
    }
  }

  const Plan& plan_;
  Advice out_;
  std::vector<std::ptrdiff_t> place_;   // by rank, index in ranks
  std::vector<std::int64_t> moved_;     // [place][rank]: bytes that the rank lacks
  std::vector<std::int64_t> entering_;  // [place][rank]: bytes that its domain lacks
};

}  // namespace

Result<Advice> advise_ranks(const Plan& plan) {
  return Adviser(plan).run();
}

}  // namespace reshard
