// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Prices are powers of how busy resources are, as the router's are. Where a plan fills more than it must, say links
// that have room beside ports that bind, their prices only spoil the bound. So prices of some kinds of resources alone
// are tried, too, and from the best of these any one kind is left out or added.
#include "src/plan/bounds/prices/certificate.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "src/plan/routing/prices.h"

namespace reshard::bounds {
namespace {

using Kinds = std::uint32_t;  // by ResourceKind, as bits

constexpr Kinds bits(std::initializer_list<ResourceKind> kinds) {
  Kinds out = 0;
  for (const ResourceKind kind : kinds) out |= Kinds{1} << static_cast<unsigned>(kind);
  return out;
}

using enum ResourceKind;
constexpr Kinds kAll = (Kinds{1} << kNumResourceKinds) - 1;
constexpr Kinds kIn = bits({kLinkIn, kPcieIn, kNicIn, kLeafDown, kPodDown});
constexpr Kinds kOut = bits({kLinkOut, kPcieOut, kNicOut, kLeafUp, kPodUp});
constexpr Kinds kLinks = bits({kLinkIn, kLinkOut});
constexpr Kinds kUplinks = bits({kLeafUp, kLeafDown, kPodUp, kPodDown});
constexpr Kinds kOnlyMemory = bits({kMemory});
constexpr Kinds kTried[] = {
    kAll, kIn, kOut, kLinks, kAll & ~bits({kLinkOut}), kAll & ~kLinks, kUplinks, kOnlyMemory, kAll & ~kOnlyMemory};
constexpr int kLog2Exponents[] = {4, 5, 6, 7};

/// Most ranks looked at in all. A plan of many thousands of ranks is near its first bounds, and looking for better ones
/// would take longer than planning.
constexpr std::int64_t kMostWork = 50'000'000;
/// Where another bound is near already little is left to prove: a bound that takes more than the first of these is
/// found the quick way, and one that takes more than the second not at all.
constexpr std::int64_t kMostWorkWhereNear = 30'000;
constexpr std::int64_t kMostQuickWorkWhereNear = 1'000'000;

class Search {
 public:
  Search(const routing::Fabric& fabric, const Task& task, const std::vector<std::int64_t>& loads, double known_seconds)
      : fabric_(fabric), task_(task), known_seconds_(known_seconds), prices_(fabric) {
    for (std::int32_t r = 0; r < prices_.num_resources(); ++r) prices_.add(r, loads[static_cast<std::size_t>(r)]);
    time_ = prices_.busiest();
    prices_.set_time(time_);
    for (const Piece& piece : task.pieces) {
      const Bundle& bundle = at(task.bundles, piece.bundle);
      work_of_bound_ += std::ssize(task.domains.of(bundle.sources).ranks);
      work_of_bound_ += std::ssize(task.domains.of(bundle.destinations).ranks);
    }
  }

  Certificate run() {
    if (is_near() && work_of_bound_ > kMostQuickWorkWhereNear) return {};
    is_quick_ = is_near() && work_of_bound_ > kMostWorkWhereNear;
    Kinds best_kinds = kAll;
    int best_exponent = kLog2Exponents[0];
    const auto look = [&](Kinds kinds, int exponent) {
      if ((!best_.prices.empty() && is_done()) || !offer(kinds, exponent)) return;
      best_kinds = kinds;
      best_exponent = exponent;
    };
    // The quick way sees no uplinks: a domain may always have its bytes from a neighbour.
    if (is_quick_) look(kAll & ~kUplinks, kLog2Exponents[0]);
    for (const Kinds kinds : kTried) {
      for (const int exponent : kLog2Exponents) look(kinds, exponent);
    }
    const Kinds found = best_kinds;
    for (int kind = 0; kind < kNumResourceKinds; ++kind) look(found ^ (Kinds{1} << kind), best_exponent);
    return std::move(best_);
  }

 private:
  /// Whether the time of the plan is within 1 % of a bound.
  bool is_near() const {
    const double seconds = static_cast<double>(time_.bytes) / static_cast<double>(time_.bytes_per_s);
    return seconds <= 1.01 * std::max(best_.bound.seconds(), known_seconds_);
  }
  bool is_done() const { return is_near() || work_ > kMostWork; }

  /// Whether this is the best so far.
  bool offer(Kinds kinds, int log2_exponent) {
    prices_.set_exponent(log2_exponent);
    std::vector<std::uint64_t> prices(static_cast<std::size_t>(prices_.num_resources()));
    bool is_any = false;
    for (std::int32_t r = 0; r < prices_.num_resources(); ++r) {
      if ((kinds >> static_cast<unsigned>(fabric_.machine.kind_of(r)) & 1U) == 0) continue;
      prices[static_cast<std::size_t>(r)] = prices_.scarcity(r);
      is_any = is_any || prices[static_cast<std::size_t>(r)] > 0;
    }
    if (!is_any) return false;
    work_ += work_of_bound_;
    const PriceBound bound =
        is_quick_ ? quick_price_bound(fabric_, task_, prices) : thorough_price_bound(fabric_, task_, prices);
    if (bound.seconds() <= best_.bound.seconds()) return false;
    best_ = {bound, std::move(prices)};
    return true;
  }

  const routing::Fabric& fabric_;
  const Task& task_;
  double known_seconds_;
  routing::Prices prices_;
  routing::Time time_;
  std::int64_t work_of_bound_ = 0;
  std::int64_t work_ = 0;
  bool is_quick_ = false;
  Certificate best_;
};

}  // namespace

Certificate certify(const routing::Fabric& fabric, const Task& task, const std::vector<std::int64_t>& loads,
                    double known_seconds) {
  return Search(fabric, task, loads, known_seconds).run();
}

}  // namespace reshard::bounds
