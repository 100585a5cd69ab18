// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/mend_tree.h"

#include <algorithm>

namespace reshard::routing {
namespace {

bool contains(const std::vector<std::int32_t>& ranks, std::int32_t rank) {
  return std::binary_search(ranks.begin(), ranks.end(), rank);
}

/// Goes through the old arcs, parents first, and knows of each where its bytes come to in the new tree.
class Mender {
 public:
  Mender(const Fabric& fabric, const Tree& old, const NewParties& parties, std::uint32_t salt)
      : fabric_(fabric), old_(old), parties_(parties), salt_(salt), ends_(old.arcs.size()) {}

  Tree run() {
    for (std::size_t i = 0; i < old_.arcs.size(); ++i) {
      if (ends_[i].is_done) continue;
      const End from = begin_of(i);
      ends_[i] = from.rank < 0 ? End{-1, -1, true} : visit(i, from);
    }
    return std::move(tree_);
  }

 private:
  /// Where the bytes are when they have passed an old arc.
  struct End {
    std::int32_t rank = -1;  ///< -1: nowhere, who is behind it must be reached anew
    std::int32_t arc = -1;   ///< of the new tree, that brings them there; -1: the rank holds them
    bool is_done = false;
  };

  bool holds(std::int32_t rank) const { return contains(parties_.holders, rank); }
  bool wants(std::int32_t rank) const { return contains(parties_.destinations, rank); }
  bool in_one_domain(std::int32_t a, std::int32_t b) const {
    return fabric_.ranks[RankId(a)].domain == fabric_.ranks[RankId(b)].domain;
  }
  bool joins(std::int32_t a, std::int32_t b) const {
    return in_one_domain(a, b) || fabric_.reaches(RankId(a), RankId(b));
  }
  /// What only passed through a rank may do so again, if it is still there.
  bool stays(const Tree::Arc& arc) const {
    return wants(arc.dst) || (arc.to_staging && !parties_.is_gone[static_cast<std::size_t>(arc.dst)]);
  }

  End begin_of(std::size_t i) const {
    const Tree::Arc& arc = old_.arcs[i];
    if (arc.parent >= 0) return at(ends_, arc.parent);
    return {holds(arc.src) ? arc.src : substitute(arc), -1, true};
  }

  /// The holder that sends in place of the arc's: the nearer to it the better, so that others' shares stay what they
  /// were. -1: none reaches the receiver.
  std::int32_t substitute(const Tree::Arc& arc) const {
    const Fabric::Rank& lost = fabric_.ranks[RankId(arc.src)];
    std::vector<std::int32_t> in_domain, on_leaf, others;
    for (const std::int32_t holder : parties_.holders) {
      if (holder == arc.dst || !joins(holder, arc.dst)) continue;
      const Fabric::Rank& its = fabric_.ranks[RankId(holder)];
      (its.domain == lost.domain ? in_domain : its.leaf == lost.leaf ? on_leaf : others).push_back(holder);
    }
    for (const std::vector<std::int32_t>* candidates : {&in_domain, &on_leaf, &others}) {
      if (!candidates->empty()) return (*candidates)[salt_ % candidates->size()];
    }
    return -1;
  }

  End visit(std::size_t i, const End& from) {
    const Tree::Arc& arc = old_.arcs[i];
    if (holds(arc.dst)) return {arc.dst, -1, true};
    if (stays(arc)) return connect(from, arc.dst);
    const std::size_t heir = heir_of(i, from.rank);
    if (heir == old_.arcs.size()) return from;
    ends_[heir] = connect(from, old_.arcs[heir].dst);
    return ends_[heir];
  }

  /// Of those whom a rank fed, one in its domain that stays; the number of arcs if there is none.
  std::size_t heir_of(std::size_t i, std::int32_t from) const {
    const auto takes_over = [&](const Tree::Arc& arc) {
      return arc.parent == static_cast<std::int32_t>(i) && in_one_domain(arc.src, arc.dst) && wants(arc.dst) &&
             !holds(arc.dst) && joins(from, arc.dst);
    };
    return static_cast<std::size_t>(std::find_if(old_.arcs.begin(), old_.arcs.end(), takes_over) - old_.arcs.begin());
  }

  End connect(const End& from, std::int32_t to) {
    if (!joins(from.rank, to)) return {-1, -1, true};
    tree_.arcs.push_back({from.rank, to, from.arc, !wants(to)});
    return {to, static_cast<std::int32_t>(tree_.arcs.size()) - 1, true};
  }

  const Fabric& fabric_;
  const Tree& old_;
  const NewParties& parties_;
  const std::uint32_t salt_;
  std::vector<End> ends_;  // by old arc
  Tree tree_;
};

}  // namespace

Tree mend_tree(const Fabric& fabric, const Tree& old, const NewParties& parties, std::uint32_t salt) {
  return without_idle_relays(Mender(fabric, old, parties, salt).run());
}

}  // namespace reshard::routing
