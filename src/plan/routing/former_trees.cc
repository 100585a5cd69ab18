// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/former_trees.h"

#include <algorithm>

#include "src/plan/routing/mend_tree.h"

namespace reshard::routing {
namespace {

/// By rank: whether it has a part in the old layouts and none in the new, as a replica that is lost. Others were never
/// more than relays, and are still.
std::vector<bool> gone_ranks(const Plan& old, const Plan& now) {
  std::vector<bool> is_gone(static_cast<std::size_t>(now.num_ranks));
  const auto mark = [&](const Plan& plan, bool value) {
    for (const Bundle& bundle : plan.bundles) {
      for (const std::int32_t set : {bundle.sources, bundle.destinations}) {
        for (const std::int32_t rank : plan.sets.ranks(set)) is_gone[static_cast<std::size_t>(rank)] = value;
      }
    }
  };
  mark(old, true);
  mark(now, false);
  return is_gone;
}

}  // namespace

FormerTrees::FormerTrees(const Plan& old, const Plan& now, const Fabric& fabric)
    : old_(old), now_(now), fabric_(fabric), is_gone_(gone_ranks(old, now)), kin_(find_kin(old, now)) {
  collect_pieces();
}

/// A plan that was read from a file, or made by another version, may bring the same bytes by several routes, each to
/// some of the ranks. No one tree carries them then, and they are planned anew.
void FormerTrees::collect_pieces() {
  pieces_.resize(old_.bundles.size());
  std::int64_t number = 0;
  for (const Route& route : old_.routes) {
    for (const Range& range : old_.ranges_of(route)) {
      at(pieces_, range.bundle).push_back({range.begin, range.end, number});
    }
    ++number;
  }
  for (std::vector<Piece>& pieces : pieces_) {
    std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.begin < b.begin; });
    const auto overlap = [](const Piece& a, const Piece& b) { return b.begin < a.end; };
    if (std::adjacent_find(pieces.begin(), pieces.end(), overlap) != pieces.end()) pieces.clear();
  }
}

/// Trees are mended once for all demands that have the same parties.
TreePtr FormerTrees::mended(std::int64_t number, std::int32_t bundle) {
  const Bundle& its = at(now_.bundles, bundle);
  const auto [known, is_new] = mended_.try_emplace({number, its.sources, its.destinations});
  if (!is_new) return known->second;
  Tree old;
  const Route route = at(old_.routes, number);
  for (std::int32_t h = 0; h < route.num_hops; ++h) {
    const Hop hop = old_.begin_hops(route)[h];
    old.arcs.push_back({hop.src, hop.dst, hop.parent, hop.to_staging});
  }
  const NewParties parties{now_.sets.ranks(its.sources), now_.sets.ranks(its.destinations), is_gone_};
  known->second = std::make_shared<const Tree>(mend_tree(fabric_, old, parties, static_cast<std::uint32_t>(number)));
  return known->second;
}

void FormerTrees::give(Demand* demand) {
  const Range& wanted = demand->range;
  std::int64_t num_former = 0;  // bytes
  auto kin = std::lower_bound(kin_.begin(), kin_.end(), wanted, [](const Kin& a, const Range& range) {
    return std::pair{a.now.bundle, a.now.end} <= std::pair{range.bundle, range.begin};
  });
  for (; kin != kin_.end() && kin->now.bundle == wanted.bundle && kin->now.begin < wanted.end; ++kin) {
    const std::int64_t shift = kin->now.begin - kin->old_begin;  // from the old stream to the new
    const std::int64_t first = std::max(kin->now.begin, wanted.begin);
    const std::int64_t last = std::min(kin->now.end, wanted.end);
    const std::vector<Piece>& pieces = at(pieces_, kin->old_bundle);
    auto piece = std::lower_bound(pieces.begin(), pieces.end(), first - shift,
                                  [](const Piece& a, std::int64_t begin) { return a.end <= begin; });
    for (; piece != pieces.end() && piece->begin + shift < last; ++piece) {
      const Range range{wanted.bundle, std::max(piece->begin + shift, first), std::min(piece->end + shift, last)};
      const TreePtr part = mended(piece->route, wanted.bundle);
      if (part->arcs.empty()) continue;
      num_former += range.end - range.begin;
      demand->former.push_back({range, part});
    }
  }
  // Where little is known the few trees that are would be given all.
  if (num_former * 2 < demand->bytes()) demand->former.clear();
}

}  // namespace reshard::routing
