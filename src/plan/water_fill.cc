// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/water_fill.h"

#include <algorithm>
#include <numeric>

#include "src/base/at.h"

namespace reshard {
namespace {

// Demands that overlap in long chains level out slowly; where they are small, more sweeps cost nothing.
constexpr std::int64_t kMinSweeps = 50;
constexpr std::int64_t kMaxSweeps = 10'000;
constexpr std::int64_t kMaxPours = 20'000'000;
constexpr std::int64_t kGapDivisor = 1000;

/// Divides the demand anew, given what its sources carry for the others, and adds the shares to `load`.
void pour(const Demand& demand, std::vector<std::int64_t>* load, std::vector<std::int64_t>* shares) {
  const std::size_t count = demand.sources.size();
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return at(*load, demand.sources[a]) < at(*load, demand.sources[b]);
  });
  // The lowest `filled` sources rise to a common level: the largest prefix whose top the water still covers.
  std::int64_t carried = 0;
  std::size_t filled = 0;
  while (filled < count) {
    const std::int64_t next = at(*load, demand.sources[order[filled]]);
    if (filled > 0 && next * static_cast<std::int64_t>(filled) - carried >= demand.bytes) break;
    carried += next;
    ++filled;
  }
  const auto width = static_cast<std::int64_t>(filled);
  const std::int64_t level = (carried + demand.bytes) / width;
  const std::int64_t remainder = (carried + demand.bytes) % width;
  std::fill(shares->begin(), shares->end(), 0);
  for (std::size_t i = 0; i < filled; ++i) {
    std::int64_t& source = at(*load, demand.sources[order[i]]);
    const std::int64_t target = level + (static_cast<std::int64_t>(i) < remainder ? 1 : 0);
    (*shares)[order[i]] = target - source;
    source = target;
  }
}

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return a / b + (a % b != 0 ? 1 : 0);
}

/// max over level sets U of ceil(bytes confined to U / |U|).
std::int64_t certificate(const std::vector<Demand>& demands, const std::vector<std::int64_t>& load) {
  std::vector<std::int32_t> by_level(load.size());
  std::iota(by_level.begin(), by_level.end(), 0);
  std::stable_sort(by_level.begin(), by_level.end(),
                   [&](std::int32_t a, std::int32_t b) { return at(load, a) > at(load, b); });
  std::vector<std::size_t> place(load.size());
  for (std::size_t i = 0; i < by_level.size(); ++i) at(place, by_level[i]) = i;
  std::vector<std::int64_t> confined(load.size());  // to the sources up to this place
  for (const Demand& demand : demands) {
    if (demand.bytes == 0) continue;
    std::size_t last = 0;
    for (const std::int32_t source : demand.sources) last = std::max(last, at(place, source));
    confined[last] += demand.bytes;
  }
  std::int64_t bound = 0;
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < confined.size(); ++i) {
    sum += confined[i];
    bound = std::max(bound, ceil_div(sum, static_cast<std::int64_t>(i) + 1));
  }
  return bound;
}

}  // namespace

WaterFill water_fill(const std::vector<Demand>& demands, std::int32_t num_ranks) {
  WaterFill out;
  std::vector<std::int64_t> load(static_cast<std::size_t>(num_ranks));
  std::int64_t num_shares = 1;
  for (const Demand& demand : demands) {
    out.shares.emplace_back(demand.sources.size());
    num_shares += static_cast<std::int64_t>(demand.sources.size());
  }
  const std::int64_t max_sweeps = std::clamp(kMaxPours / num_shares, kMinSweeps, kMaxSweeps);
  for (std::int64_t sweep = 0; sweep < max_sweeps; ++sweep) {
    for (std::size_t i = 0; i < demands.size(); ++i) {
      if (demands[i].bytes == 0) continue;
      for (std::size_t s = 0; s < demands[i].sources.size(); ++s) at(load, demands[i].sources[s]) -= out.shares[i][s];
      pour(demands[i], &load, &out.shares[i]);
    }
    out.level = load.empty() ? 0 : *std::max_element(load.begin(), load.end());
    out.bound = std::max(out.bound, certificate(demands, load));
    if (out.level - out.bound <= out.level / kGapDivisor) break;
  }
  return out;
}

}  // namespace reshard
