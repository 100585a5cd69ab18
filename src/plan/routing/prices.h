// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a byte pays for a resource: the busier it is beside the busiest, the more, by a power. So cheap ways are those
// that leave the busiest alone, and who always moves bytes to cheaper ways lowers what the busiest takes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "src/base/arithmetic.h"
#include "src/plan/routing/fabric.h"

namespace reshard::routing {

/// A time as bytes over bytes per second: exact, so that all ranks compare alike.
struct Time {
  std::int64_t bytes = 0;
  std::int64_t bytes_per_s = 1;
  bool operator<(const Time& other) const { return Wide{bytes} * other.bytes_per_s < Wide{other.bytes} * bytes_per_s; }
};

/// Loads of resources and what follows from them. A price is u^e: u is the resource's time by that of the busiest, e
/// the exponent. All in units of 2^-30, so that a resource as busy as the busiest costs kFullPrice.
class Prices {
 public:
  static constexpr std::uint64_t kFullPrice = std::uint64_t{1} << 30U;
  /// What a byte pays at least for each use of anything that has a limit, 1/4096 of the full price: of ways that spare
  /// the busiest alike, the one with the fewest hops is the cheapest.
  static constexpr std::uint64_t kFloor = kFullPrice / 4096;

  explicit Prices(const Fabric& fabric);

  /// e = 2^log2_exponent.
  void set_exponent(int log2_exponent);
  /// The time beside which loads are measured: that of the busiest, or what it shall be.
  void set_time(const Time& time);
  const Time& time() const { return time_; }
  /// Of the busiest resource; above 0.
  Time busiest() const;

  std::int64_t load(std::int32_t resource) const { return loads_[index(resource)]; }
  std::int64_t capacity(std::int32_t resource) const { return capacities_[index(resource)]; }
  std::int32_t num_resources() const { return static_cast<std::int32_t>(loads_.size()) - 1; }
  void add(std::int32_t resource, std::int64_t bytes) {
    loads_[index(resource)] += bytes;
    prices_[index(resource)] = kStale;
  }

  /// At its load now. The resource may be Uses::free(), whose price is 0.
  std::uint64_t of(std::int32_t resource) const {
    std::uint64_t& price = prices_[index(resource)];
    if (price == kStale) price = at_load(resource, loads_[index(resource)]);
    return price;
  }
  /// If it had this load.
  std::uint64_t at_load(std::int32_t resource, std::int64_t bytes) const;
  /// The price without the floor, which says nothing of how scarce the resource is.
  std::uint64_t scarcity(std::int32_t resource) const { return of(resource) - std::min(of(resource), kFloor); }
  /// What all prices are slopes of, summed over resources: capacity * (u^(e + 1) + (e + 1) * floor * u). A change of
  /// routes that lowers the sum is one for the better.
  Wide potential(std::int32_t resource, std::int64_t bytes) const;

 private:
  static constexpr std::uint64_t kStale = UINT64_MAX;
  static std::size_t index(std::int32_t resource) { return static_cast<std::size_t>(resource); }
  std::uint64_t part_of_time(std::int32_t resource, std::int64_t bytes) const;
  std::uint64_t power(std::uint64_t part) const;

  std::vector<std::int64_t> capacities_;  // one more than the machine has, for what has no limit
  std::vector<std::int64_t> loads_;
  std::vector<std::uint64_t> inverses_;  // of capacity * time, times 2^70
  mutable std::vector<std::uint64_t> prices_;
  Time time_;
  int log2_exponent_ = 4;
};

}  // namespace reshard::routing
