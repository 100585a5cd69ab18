// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/bounds/prices/regions.h"

#include <numeric>

namespace reshard::bounds {
namespace {

/// Sets of things that are joined, each known by one of them.
class Joined {
 public:
  explicit Joined(std::int32_t count) : parent_(static_cast<std::size_t>(count)) {
    std::iota(parent_.begin(), parent_.end(), 0);
  }
  std::int32_t find(std::int32_t thing) {
    while (parent(thing) != thing) thing = parent(thing) = parent(parent(thing));
    return thing;
  }
  void join(std::int32_t a, std::int32_t b) { parent(find(a)) = find(b); }

 private:
  std::int32_t& parent(std::int32_t thing) { return parent_[static_cast<std::size_t>(thing)]; }
  std::vector<std::int32_t> parent_;
};

/// Numbers the sets of domains that share what their ports hang on. Returns how many there are.
template <typename Place>
std::int32_t number(const routing::Fabric& fabric, std::int32_t num_places, const Place& place_of,
                    IndexedVector<DomainId, std::int32_t>* out) {
  const std::int32_t num_domains = fabric.machine.domains.end_id();
  Joined joined(num_domains + num_places);
  for (const routing::Fabric::Rank& rank : fabric.ranks) {
    if (rank.leaf.valid()) joined.join(rank.domain, num_domains + place_of(rank));
  }
  std::vector<std::int32_t> numbers(static_cast<std::size_t>(num_domains + num_places), -1);
  std::int32_t count = 0;
  for (std::int32_t domain = 0; domain < num_domains; ++domain) {
    std::int32_t& its = numbers[static_cast<std::size_t>(joined.find(domain))];
    if (its < 0) its = count++;
    out->push_back(its);
  }
  return count;
}

}  // namespace

Regions::Regions(const routing::Fabric& fabric) {
  using Rank = routing::Fabric::Rank;
  const Machine& machine = fabric.machine;
  num_blocks = number(
      fabric, machine.leaves.end_id(), [](const Rank& rank) { return rank.leaf.value(); }, &block);
  num_regions = number(
      fabric, machine.pods.end_id(), [](const Rank& rank) { return rank.pod.value(); }, &region);
}

Held::Held(const Regions& regions)
    : regions_(regions),
      domains_(regions.block.size()),
      blocks_(static_cast<std::size_t>(regions.num_blocks)),
      in_regions_(static_cast<std::size_t>(regions.num_regions)) {}

void Held::add(DomainId domain) {
  domains_[domain] = bundle_;
  blocks_[static_cast<std::size_t>(regions_.block[domain])] = bundle_;
  in_regions_[static_cast<std::size_t>(regions_.region[domain])] = bundle_;
}

}  // namespace reshard::bounds
