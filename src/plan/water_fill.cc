// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Sources are cups that stand side by side, as wide as their capacity; a demand is water that may go into some of them.
// Pouring one demand takes back what it put in before and fills its cups from the lowest up. Done for all demands over
// and over, the levels of all cups approach the least possible, and the certificate says how near they are.
#include "src/plan/water_fill.h"

#include <algorithm>
#include <cassert>
#include <numeric>

#include "src/base/arithmetic.h"
#include "src/base/at.h"

namespace reshard {
namespace {

// Demands that overlap in long chains level out slowly; where they are small, more sweeps cost nothing.
constexpr std::int64_t kMinSweeps = 50;
constexpr std::int64_t kMaxSweeps = 10'000;
constexpr std::int64_t kMaxPours = 20'000'000;
constexpr std::int64_t kGapDivisor = 1000;
// Above this many sources an insertion sort is no longer the quickest.
constexpr std::size_t kFewSources = 16;

/// All cups and the water in them. Invariant between calls: what a source carries is its base and its shares of all
/// demands poured so far. Levels are compared as load / capacity, by products of 128 bits.
class Vessel {
 public:
  Vessel(const std::vector<std::int64_t>& capacities, const std::vector<std::int64_t>& base)
      : capacity_(capacities), load_(base) {
    load_.resize(capacity_.size());
    std::int64_t divisor = 0;
    for (const std::int64_t capacity : capacity_) divisor = std::gcd(divisor, capacity);
    for (std::int64_t& capacity : capacity_) {
      if (divisor > 1) capacity /= divisor;  // equal capacities become 1, for which the divisions are quick
      largest_ = std::max(largest_, capacity);
    }
    base_ = load_;
  }

  /// Adds the first shares of a demand that only one source can carry. It is never poured again: there is nothing to
  /// choose.
  bool pour_fixed(const Demand& demand, std::vector<std::int64_t>* shares) {
    if (demand.sources.size() != 1) return false;
    assert(at(capacity_, demand.sources[0]) > 0);
    at(load_, demand.sources[0]) += demand.bytes;
    (*shares)[0] = demand.bytes;
    return true;
  }

  /// Divides the demand anew, given what its sources carry for the others.
  void pour(const Demand& demand, std::vector<std::int64_t>* shares);

  /// The highest level, in bytes of the widest cup, rounded up. The certificate is rounded up, too, so that the level
  /// is never below it.
  std::int64_t level() const {
    std::int64_t level = 0;
    for (std::size_t s = 0; s < load_.size(); ++s) {
      if (capacity_[s] > 0) level = std::max(level, ceil_div(Wide{load_[s]} * largest_, capacity_[s]));
    }
    return level;
  }

  std::int64_t certificate(const std::vector<Demand>& demands) const;

 private:
  struct Cup {
    std::int64_t load;
    std::int64_t capacity;
    std::size_t place;  ///< in the demand's sources

    /// By level, then by place, so that every rank sorts alike.
    bool operator<(const Cup& other) const {
      const Wide mine = Wide{load} * other.capacity;
      const Wide its = Wide{other.load} * capacity;
      return mine != its ? mine < its : place < other.place;
    }
  };

  /// Into cups_, lowest first.
  void sort_cups(const Demand& demand);

  std::vector<std::int64_t> capacity_;
  std::vector<std::int64_t> base_;
  std::vector<std::int64_t> load_;
  std::int64_t largest_ = 0;
  std::vector<Cup> cups_;
};

void Vessel::sort_cups(const Demand& demand) {
  cups_.clear();
  for (std::size_t i = 0; i < demand.sources.size(); ++i) {
    const Cup cup{at(load_, demand.sources[i]), at(capacity_, demand.sources[i]), i};
    if (cup.capacity > 0) cups_.push_back(cup);
  }
  assert(!cups_.empty());
  if (cups_.size() > kFewSources) {
    std::sort(cups_.begin(), cups_.end());
    return;
  }
  for (std::size_t i = 1; i < cups_.size(); ++i) {
    const Cup cup = cups_[i];
    std::size_t hole = i;
    for (; hole > 0 && cup < cups_[hole - 1]; --hole) cups_[hole] = cups_[hole - 1];
    cups_[hole] = cup;
  }
}

void Vessel::pour(const Demand& demand, std::vector<std::int64_t>* shares) {
  for (std::size_t i = 0; i < shares->size(); ++i) at(load_, demand.sources[i]) -= (*shares)[i];
  sort_cups(demand);
  // The lowest `filled` sources rise to a common level: the largest prefix whose top the water still covers.
  std::int64_t content = demand.bytes;
  std::int64_t width = 0;
  std::size_t filled = 0;
  while (filled < cups_.size()) {
    const Cup& next = cups_[filled];
    // Invariant: the first `filled` cups hold `content` bytes in all, water included, on a common width: their level is
    // content / width. The next one gets wet if its own level is lower; compared by products, so that nothing is
    // rounded.
    if (filled > 0 && Wide{next.load} * width >= Wide{content} * next.capacity) break;
    content += next.load;
    width += next.capacity;
    ++filled;
  }
  const std::int64_t level = content / width;
  const std::int64_t fraction = content % width;
  // Rounding down leaves fewer bytes than there are filled cups; the lowest ones get one more each, always the same
  // way, for every rank must divide alike.
  std::int64_t remainder = content;
  for (std::size_t i = 0; i < filled; ++i) {
    Cup& cup = cups_[i];
    const std::int64_t target = level * cup.capacity + static_cast<std::int64_t>(Wide{fraction} * cup.capacity / width);
    remainder -= target;
    (*shares)[cup.place] = target - cup.load;
  }
  for (std::size_t i = filled; i < cups_.size(); ++i) (*shares)[cups_[i].place] = 0;
  for (std::size_t i = 0; remainder > 0; ++i, --remainder) ++(*shares)[cups_[i].place];
  for (std::size_t i = 0; i < shares->size(); ++i) at(load_, demand.sources[i]) += (*shares)[i];
}

/// max over level sets U of ceil(bytes confined to U / capacity of U).
std::int64_t Vessel::certificate(const std::vector<Demand>& demands) const {
  std::vector<Cup> by_level;
  for (std::size_t s = 0; s < load_.size(); ++s) {
    if (capacity_[s] > 0) by_level.push_back({-load_[s], capacity_[s], s});
  }
  std::sort(by_level.begin(), by_level.end());
  // By level, the fullest first. The sources up to a place are a level set; a demand is confined to the smallest set
  // that has all its sources, the one that ends at its lowest source.
  std::vector<std::size_t> place(load_.size());  // 0 for those without capacity: they add nothing to a set
  for (std::size_t i = 0; i < by_level.size(); ++i) place[by_level[i].place] = i;
  std::vector<std::int64_t> confined(by_level.size());  // to the sources up to this place
  for (std::size_t i = 0; i < by_level.size(); ++i) confined[i] = base_[by_level[i].place];
  for (const Demand& demand : demands) {
    if (demand.bytes == 0) continue;
    std::size_t last = 0;
    for (const std::int32_t source : demand.sources) last = std::max(last, at(place, source));
    confined[last] += demand.bytes;
  }
  std::int64_t bound = 0;
  std::int64_t sum = 0;
  std::int64_t width = 0;
  for (std::size_t i = 0; i < confined.size(); ++i) {
    sum += confined[i];
    width += by_level[i].capacity;
    bound = std::max(bound, ceil_div(Wide{sum} * largest_, width));
  }
  return bound;
}

}  // namespace

WaterFill water_fill(const std::vector<Demand>& demands, const std::vector<std::int64_t>& capacities,
                     const std::vector<std::int64_t>& base) {
  WaterFill out;
  Vessel vessel(capacities, base);
  std::int64_t num_shares = 1;
  out.shares.reserve(demands.size());
  for (const Demand& demand : demands) {
    out.shares.emplace_back(demand.sources.size());
    num_shares += static_cast<std::int64_t>(demand.sources.size());
  }
  // Sweeps are bounded by work and not by time, which would differ between ranks.
  const std::int64_t max_sweeps = std::clamp(kMaxPours / num_shares, kMinSweeps, kMaxSweeps);
  std::vector<std::size_t> divisible;
  for (std::size_t i = 0; i < demands.size(); ++i) {
    if (demands[i].bytes == 0 || vessel.pour_fixed(demands[i], &out.shares[i])) continue;
    vessel.pour(demands[i], &out.shares[i]);
    divisible.push_back(i);
  }
  // Every certificate is true, whatever the levels it was found at, so the best of all sweeps counts.
  for (std::int64_t sweep = 1;; ++sweep) {
    out.level = vessel.level();
    out.bound = std::max(out.bound, vessel.certificate(demands));
    if (out.level - out.bound <= out.level / kGapDivisor || sweep == max_sweeps) return out;
    for (const std::size_t i : divisible) vessel.pour(demands[i], &out.shares[i]);
  }
}

}  // namespace reshard
