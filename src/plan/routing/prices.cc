// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/prices.h"

#include <algorithm>

namespace reshard::routing {
namespace {

__extension__ using WideUnsigned = unsigned __int128;

constexpr unsigned kBits = 30;                                         // of a fraction
constexpr unsigned kInverseBits = 70;                                  // of an inverse
constexpr std::uint64_t kMostPart = std::uint64_t{1} << (kBits + 2);   // four times the time
constexpr std::uint64_t kMostPrice = std::uint64_t{1} << (kBits + 3);  // eight times the full price

}  // namespace

Prices::Prices(const Fabric& fabric) : capacities_(fabric.capacities) {
  capacities_.push_back(kUnlimited);
  loads_.resize(capacities_.size());
  inverses_.resize(capacities_.size());
  prices_.assign(capacities_.size(), kStale);
}

void Prices::set_exponent(int log2_exponent) {
  log2_exponent_ = log2_exponent;
  std::fill(prices_.begin(), prices_.end(), kStale);
}

void Prices::set_time(const Time& time) {
  time_ = time;
  // A rate of 2^58 or more does not fit with so many bits behind it. Both sides of the division do with fewer then:
  // what they lose is less than its result can hold.
  const unsigned fewer = time.bytes_per_s >> (128 - kInverseBits) == 0 ? 0 : 5;
  const WideUnsigned rate = WideUnsigned{static_cast<std::uint64_t>(time.bytes_per_s)} << (kInverseBits - fewer);
  for (std::size_t r = 0; r < inverses_.size(); ++r) {
    if (capacities_[r] == kUnlimited) continue;
    const WideUnsigned carried = static_cast<WideUnsigned>(Wide{capacities_[r]} * time.bytes) >> fewer;
    inverses_[r] =
        static_cast<std::uint64_t>(std::min<WideUnsigned>(UINT64_MAX, rate / std::max<WideUnsigned>(1, carried)));
  }
  std::fill(prices_.begin(), prices_.end(), kStale);
}

Time Prices::busiest() const {
  Time out{1, INT64_C(1) << 40};
  for (std::size_t r = 0; r < loads_.size(); ++r) {
    if (capacities_[r] == kUnlimited) continue;
    const Time its{loads_[r], capacities_[r]};
    if (out < its) out = its;
  }
  return out;
}

std::uint64_t Prices::part_of_time(std::int32_t resource, std::int64_t bytes) const {
  const WideUnsigned part = WideUnsigned{static_cast<std::uint64_t>(bytes)} * inverses_[index(resource)];
  return static_cast<std::uint64_t>(std::min<WideUnsigned>(kMostPart, part >> (kInverseBits - kBits)));
}

/// By squaring. A part of kMostPart or more would not fit when squared, and is worth more than kMostPrice anyway.
std::uint64_t Prices::power(std::uint64_t part) const {
  for (int i = 0; i < log2_exponent_; ++i) {
    if (part >= kMostPart) return kMostPrice;
    part = (part * part) >> kBits;
  }
  return std::min(part, kMostPrice);
}

std::uint64_t Prices::at_load(std::int32_t resource, std::int64_t bytes) const {
  if (capacities_[index(resource)] == kUnlimited) return 0;
  return power(part_of_time(resource, bytes)) + kFloor;
}

Wide Prices::potential(std::int32_t resource, std::int64_t bytes) const {
  const std::uint64_t part = part_of_time(resource, bytes);
  const std::uint64_t floors = ((std::uint64_t{1} << static_cast<unsigned>(log2_exponent_)) + 1) * kFloor;
  const auto product = static_cast<std::uint64_t>(WideUnsigned{power(part) + floors} * part >> kBits);
  return Wide{capacities_[index(resource)]} * static_cast<std::int64_t>(product);
}

}  // namespace reshard::routing
