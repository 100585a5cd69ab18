// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// LB12: where rails are isolated, bytes change from rail to rail only over the links of a domain.
#include <fmt/format.h>

#include <bit>
#include <cstdint>
#include <set>

#include "src/plan/bounds/cuts.h"
#include "src/plan/bounds/largest.h"
#include "src/plan/routing/audience.h"
#include "src/plan/routing/fabric.h"

namespace reshard::bounds {
namespace {

/// Rails as bits; another for ranks without a port.
using Rails = std::uint64_t;
constexpr std::int32_t kMostRails = 63;
constexpr Rails kNoRail = Rails{1} << 63U;
// Sets of rails that are looked at: as many as layouts of everyday jobs have.
constexpr std::size_t kMostSets = 256;

/// A bundle, as far as sets of rails can tell: on which somebody holds it, and on which somebody lacks it.
struct Need {
  Rails held = 0;
  Rails lacking = 0;
  std::int64_t bytes = 0;
};

Rails rail_of(const routing::Fabric& fabric, RankId rank) {
  return fabric.has_port(rank) ? Rails{1} << static_cast<unsigned>(fabric.ranks[rank].rail.value()) : kNoRail;
}

std::vector<Need> needs_of(const Cuts& cuts, const routing::Fabric& fabric) {
  std::vector<Need> needs;
  for (const Bundle& bundle : cuts.plan.bundles) {
    const routing::Audience audience(cuts.domains, bundle);
    Need need;
    need.bytes = bundle.size_bytes;
    for (const routing::Audience::Place& place : audience.places()) {
      for (const std::int32_t rank : place.holders) need.held |= rail_of(fabric, RankId(rank));
      for (const std::int32_t rank : place.lacking) need.lacking |= rail_of(fabric, RankId(rank));
    }
    if (need.lacking != 0) needs.push_back(need);
  }
  return needs;
}

/// What the links of ranks on some rails carry from or to neighbours that are on none of them; 0: they have no limit,
/// or there are none.
std::int64_t links_of(const routing::Fabric& fabric, Rails rails) {
  std::int64_t sum = 0;
  for (const Machine::Domain& domain : fabric.machine.domains) {
    Rails all = 0;
    for (const std::int32_t rank : domain.ranks) all |= rail_of(fabric, RankId(rank));
    if ((all & ~rails) == 0) continue;
    for (const std::int32_t number : domain.ranks) {
      if ((rail_of(fabric, RankId(number)) & rails) == 0) continue;
      const Link& link = fabric.machine.gpus[RankId(number)].link;
      if (!link.is_limited()) return 0;
      sum += link.bytes_per_s();
    }
  }
  return sum;
}

std::string name_of(const routing::Fabric& fabric, Rails rails) {
  std::set<std::int32_t> numbers;  // as the machine counts them
  for (const RankId rank : fabric.ranks.ids()) {
    if ((rail_of(fabric, rank) & rails & ~kNoRail) == 0) continue;
    numbers.insert(fabric.machine.ports[fabric.machine.gpus[rank].port].rail);
  }
  return fmt::format("rail{} {}", numbers.size() == 1 ? "" : "s", fmt::join(numbers, ", "));
}

}  // namespace

/// Take the ranks whose ports are on some rails, and all others. No network joins the two, so a byte that only the
/// first hold and one of the others lacks leaves a rank of the first at least once over its link, to a neighbour; and
/// one that nobody among the first holds and somebody there lacks comes into one of them so. The sets tried are each
/// rail, and the rails on which holders of a bundle are.
Bound rail_changes(const Cuts& cuts) {
  Largest out("LB12 changes of rail");
  const routing::Fabric fabric(cuts.machine);
  for (const routing::Fabric::Rank& rank : fabric.ranks) {
    if (rank.rail >= kMostRails) return out.take();
  }
  const std::vector<Need> needs = needs_of(cuts, fabric);
  std::set<Rails> sets;
  for (const RankId rank : fabric.ranks.ids()) sets.insert(rail_of(fabric, rank));
  for (const Need& need : needs) {
    if (sets.size() < kMostSets) sets.insert(need.held);
  }
  for (const Rails rails : sets) {
    if ((rails & kNoRail) != 0) continue;
    std::int64_t leaving = 0;
    std::int64_t coming = 0;
    for (const Need& need : needs) {
      if ((need.held & ~rails) == 0 && (need.lacking & ~rails) != 0) leaving += need.bytes;
      if ((need.held & rails) == 0 && (need.lacking & rails) != 0) coming += need.bytes;
    }
    const std::int64_t links = links_of(fabric, rails);
    out.offer(leaving, links, [&] { return "links out of ranks on " + name_of(fabric, rails); });
    out.offer(coming, links, [&] { return "links into ranks on " + name_of(fabric, rails); });
  }
  return out.take();
}

}  // namespace reshard::bounds
