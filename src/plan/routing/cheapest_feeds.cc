// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/cheapest_feeds.h"

#include <cstdint>
#include <vector>

#include "src/plan/routing/own_prices.h"

namespace reshard::routing {
namespace {

// A change of one feed may make another one possible; most are found at once.
constexpr int kMostRounds = 4;
constexpr std::size_t kNobody = SIZE_MAX;

class Feeds {
 public:
  Feeds(const Tree& tree, const Audience& audience, const Fabric& fabric, const Uses& uses, const Prices& prices)
      : fabric_(fabric), uses_(uses), prices_(prices) {
    for (const Tree::Arc& arc : tree.arcs) {
      ranks_.push_back(
          {RankId(arc.dst), arc.parent < 0 ? kNobody : static_cast<std::size_t>(arc.parent), arc.to_staging});
    }
    num_fed_ = ranks_.size();
    for (const Audience::Place& place : audience.places()) {
      for (const std::int32_t rank : place.holders) ranks_.push_back({RankId(rank), kNobody, false});
    }
    for (std::size_t i = 0; i < num_fed_; ++i) {
      if (ranks_[i].feed == kNobody) ranks_[i].feed = holder(RankId(tree.arcs[i].src));
    }
  }

  Tree run() {
    bool is_changed = true;
    for (int round = 0; round < kMostRounds && is_changed; ++round) {
      is_changed = false;
      for (std::size_t i = 0; i < num_fed_; ++i) is_changed = choose_feed(i) || is_changed;
    }
    return tree();
  }

 private:
  struct Fed {
    RankId rank;
    std::size_t feed;  ///< index of who sends it the bytes
    bool to_staging;
  };

  std::size_t holder(RankId rank) const {
    std::size_t i = num_fed_;
    while (ranks_[i].rank != rank) ++i;
    return i;
  }

  std::uint64_t price(RankId src, RankId dst) const {
    const bool is_inside = fabric_.ranks[src].domain == fabric_.ranks[dst].domain;
    if (!is_inside && !fabric_.reaches(src, dst)) return kNoWay;
    std::uint64_t sum = 0;
    uses_.for_each(src, dst, [&](std::int32_t resource) { sum += prices_.of(resource); });
    return sum;
  }

  bool has_it_from(std::size_t who, std::size_t from) const {
    while (who != kNobody && who != from) who = ranks_[who].feed;
    return who == from;
  }

  /// What depth costs of a hop from there, as where trees grow.
  std::uint64_t level_price(std::size_t feed) const {
    std::uint64_t out = 0;
    for (; ranks_[feed].feed != kNobody; feed = ranks_[feed].feed) out += kLevelPrice;
    return out;
  }

  bool choose_feed(std::size_t fed) {
    std::size_t best = ranks_[fed].feed;
    std::uint64_t least = price(ranks_[best].rank, ranks_[fed].rank) + level_price(best);
    for (std::size_t i = 0; i < ranks_.size(); ++i) {
      if (i == fed) continue;
      std::uint64_t its = price(ranks_[i].rank, ranks_[fed].rank);
      if (its < least) its += level_price(i);
      if (its >= least || has_it_from(i, fed)) continue;
      least = its;
      best = i;
    }
    const bool is_changed = best != ranks_[fed].feed;
    ranks_[fed].feed = best;
    return is_changed;
  }

  /// Feeds first.
  Tree tree() const {
    Tree out;
    std::vector<std::int32_t> arc(ranks_.size(), -1);
    std::vector<std::size_t> reached;
    for (std::size_t i = num_fed_; i < ranks_.size(); ++i) reached.push_back(i);
    for (std::size_t next = 0; next < reached.size(); ++next) {
      const std::size_t feed = reached[next];
      for (std::size_t i = 0; i < num_fed_; ++i) {
        if (ranks_[i].feed != feed) continue;
        arc[i] = static_cast<std::int32_t>(out.arcs.size());
        out.arcs.push_back({ranks_[feed].rank, ranks_[i].rank, arc[feed], ranks_[i].to_staging});
        reached.push_back(i);
      }
    }
    return without_idle_relays(out);
  }

  const Fabric& fabric_;
  const Uses& uses_;
  const Prices& prices_;
  std::vector<Fed> ranks_;  // those that get the bytes, in the order of the tree's arcs, then holders
  std::size_t num_fed_ = 0;
};

}  // namespace

Tree with_cheapest_feeds(const Tree& tree, const Audience& audience, const Fabric& fabric, const Uses& uses,
                         const Prices& prices) {
  return Feeds(tree, audience, fabric, uses, prices).run();
}

}  // namespace reshard::routing
