// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/routing/fabric.h"
#include "src/plan/routing/prices.h"
#include "src/plan/routing/uses.h"
#include "tests/unit/plan/small_machine.h"

namespace reshard::testing {

/// A small random machine with random loads, so that prices are anything.
struct RandomFabric {
  explicit RandomFabric(optimum::Random& random) : machine(draw_machine(random)) {
    const int most = random.of({3, 1000, 1'000'000});  // the smaller, the more ties
    for (std::int32_t r = 0; r < machine.num_resources(); ++r) {
      if (!random.one_in(4)) prices.add(r, random.between(0, most) * std::int64_t{1'000'000});
    }
    prices.set_exponent(random.between(0, 5));
    prices.set_time(prices.busiest());
  }
  RandomFabric(const RandomFabric&) = delete;  // its parts know each other
  RandomFabric& operator=(const RandomFabric&) = delete;

  /// What a byte pays between the ports of two ranks, as Machine says what it passes there.
  template <typename PriceOf>
  std::uint64_t crossing(RankId src, RankId dst, const PriceOf& price_of) const {
    const Machine::Port& from = machine.ports[machine.gpus[src].port];
    const Machine::Port& to = machine.ports[machine.gpus[dst].port];
    if (from.leaf == to.leaf) return 0;
    const auto price = [&](ResourceKind kind, std::int32_t index) -> std::uint64_t {
      const std::int32_t resource = machine.resource(kind, index);
      return machine.link_of(resource).is_limited() ? price_of(resource) : 0;
    };
    std::uint64_t sum = price(ResourceKind::kLeafUp, from.leaf) + price(ResourceKind::kLeafDown, to.leaf);
    const PodId up = machine.leaves[from.leaf].pod;
    const PodId down = machine.leaves[to.leaf].pod;
    if (up != down) sum += price(ResourceKind::kPodUp, up) + price(ResourceKind::kPodDown, down);
    return sum;
  }

  const Machine machine;
  const routing::Fabric fabric{machine};
  const routing::Uses uses{fabric};
  routing::Prices prices{fabric};
};

}  // namespace reshard::testing
