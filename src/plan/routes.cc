// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Runs of routes grow at their end as long as what is added continues the last one, for the same receiver: reading them
// costs a search among runs, so few long ones are kept, not one for each route.
#include "src/plan/routes.h"

#include <algorithm>

namespace reshard {

Route Routes::operator[](std::size_t i) const {
  const auto place = static_cast<std::int64_t>(i);
  const auto after = std::upper_bound(runs_.begin(), runs_.end(), place,
                                      [](std::int64_t wanted, const Run& run) { return wanted < run.first; });
  return route_of(*(after - 1), place);
}

void Routes::push_back(const Route& route) {
  const auto place = static_cast<std::int64_t>(distinct_.size());
  const bool follows =
      !runs_.empty() && runs_.back().receiver < 0 && runs_.back().first_distinct + size_of(runs_.size() - 1) == place;
  if (!follows) runs_.push_back({size_, place, -1});
  distinct_.push_back(route);
  ++size_;
}

void Routes::repeat(std::int64_t first, std::int64_t count, std::int32_t receiver) {
  if (count == 0) return;
  const bool follows = !runs_.empty() && runs_.back().receiver == receiver &&
                       runs_.back().first_distinct + size_of(runs_.size() - 1) == first;
  if (!follows) runs_.push_back({size_, first, receiver});
  size_ += count;
}

}  // namespace reshard
