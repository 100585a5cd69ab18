// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <vector>

namespace reshard::routing {

/// Something to choose from, at what it cost when it was last looked at.
struct Offer {
  std::uint64_t price = 0;
  std::uint32_t tie = 0;  ///< of equal prices the least first
  std::int32_t who = -1;
  bool operator>(const Offer& other) const {
    return std::tie(price, tie, who) > std::tie(other.price, other.tie, other.who);
  }
};

/// The cheapest of many whose prices rise: an offer is looked at again only when it comes to the top, so that a rise
/// costs nothing before. An offer that has become cheaper must be pushed once more.
class Offers {
 public:
  bool empty() const { return heap_.empty(); }
  void clear() { heap_.clear(); }
  const Offer& top() const { return heap_.front(); }

  void push(const Offer& offer) {
    heap_.push_back(offer);
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }
  Offer pop() {
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    const Offer offer = heap_.back();
    heap_.pop_back();
    return offer;
  }
  /// The cheapest at prices of now, as price_of(who) says. @pre not empty
  template <typename PriceOf>
  const Offer& best(const PriceOf& price_of) {
    while (true) {
      const std::uint64_t price = price_of(heap_.front().who);
      if (price <= heap_.front().price) {
        heap_.front().price = price;
        return heap_.front();
      }
      Offer offer = pop();
      offer.price = price;
      push(offer);
    }
  }

 private:
  std::vector<Offer> heap_;
};

}  // namespace reshard::routing
