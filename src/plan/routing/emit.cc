// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/emit.h"

#include <algorithm>
#include <unordered_map>

#include "src/plan/line.h"

namespace reshard::routing {
namespace {

class Emitter {
 public:
  Emitter(const Fabric& fabric, Plan* plan) : fabric_(fabric), plan_(*plan) {}

  void run(const std::vector<Demand>& demands) {
    for (const Demand& demand : demands) cut(demand);
    for (Draft& draft : drafts_) add_route(draft);
  }

 private:
  /// A route in the making.
  struct Draft {
    Tree tree;
    std::vector<Range> ranges;
  };

  /// The draft of this tree, whoever else takes it.
  std::size_t draft_of(const Tree& grown) {
    Tree tree = without_idle_relays(grown);
    const std::uint64_t digest = tree.digest();
    const auto [first, last] = known_.equal_range(digest);
    const auto same = std::find_if(first, last, [&](const auto& entry) { return drafts_[entry.second].tree == tree; });
    if (same != last) return same->second;
    known_.emplace(digest, drafts_.size());
    drafts_.push_back({std::move(tree), {}});
    return drafts_.size() - 1;
  }

  /// A cut may move to where it costs least, by little of the bundle and by little of what any tree carries: the
  /// smallest share would else be lost, and with it what it was for.
  void cut(const Demand& demand) {
    std::vector<std::pair<std::size_t, std::int64_t>> shares;
    for (const Share& share : demand.shares) shares.emplace_back(draft_of(*share.tree), share.bytes);
    std::sort(shares.begin(), shares.end());
    std::vector<std::int64_t> bytes;
    std::int64_t tolerance = demand.bytes() / 200;
    for (const auto& [draft, its_bytes] : shares) {
      bytes.push_back(its_bytes);
      tolerance = std::min(tolerance, its_bytes / 64);
    }
    Line line(plan_);
    line.add(demand.range, 0);
    line.divide(bytes, tolerance, [&](std::size_t part, std::size_t, const Range& range) {
      std::vector<Range>& ranges = drafts_[shares[part].first].ranges;
      // Two trees that differed in idle relays alone are one, and their parts follow each other.
      if (!ranges.empty() && ranges.back().bundle == range.bundle && ranges.back().end == range.begin) {
        ranges.back().end = range.end;
      } else {
        ranges.push_back(range);
      }
    });
  }

  void add_route(const Draft& draft) {
    if (draft.ranges.empty()) return;  // its share was less than an element
    Route route;
    route.first_range = static_cast<std::int64_t>(plan_.ranges.size());
    route.first_hop = static_cast<std::int64_t>(plan_.hops.size());
    route.num_ranges = static_cast<std::int32_t>(draft.ranges.size());
    route.num_hops = static_cast<std::int32_t>(draft.tree.arcs.size());
    for (const Range& range : draft.ranges) {
      route.size_bytes += range.end - range.begin;
      plan_.ranges.push_back(range);
    }
    add_hops(draft.tree);
    plan_.routes.push_back(route);
  }

  bool is_crossing(const Tree::Arc& arc) const {
    return fabric_.ranks[RankId(arc.src)].domain != fabric_.ranks[RankId(arc.dst)].domain;
  }

  /// Delays as Hop says. What is staged goes on in the round in which it came, so a hop into staging waits for the
  /// crossing behind it.
  void add_hops(const Tree& tree) {
    const std::vector<Tree::Arc>& arcs = tree.arcs;
    // Whether bytes that come to staging in the domain leave it from there.
    std::vector<bool> leads_out(arcs.size());
    for (std::size_t i = arcs.size(); i-- > 0;) {
      const bool goes_on = is_crossing(arcs[i]) || (arcs[i].to_staging && leads_out[i]);
      if (goes_on && arcs[i].parent >= 0) leads_out[static_cast<std::size_t>(arcs[i].parent)] = true;
    }
    std::vector<bool> has_crossed;  // by arc: whether the bytes have come over the network
    const auto first = static_cast<std::ptrdiff_t>(plan_.hops.size());
    for (std::size_t i = 0; i < arcs.size(); ++i) {
      const Tree::Arc& arc = arcs[i];
      Hop hop{arc.src, arc.dst, arc.parent, 0, 0, arc.to_staging};
      bool crossed = is_crossing(arc);
      if (arc.parent >= 0) {
        const Hop& parent = plan_.hops[static_cast<std::size_t>(first + arc.parent)];
        const bool crossed_before = has_crossed[static_cast<std::size_t>(arc.parent)];
        const bool leaves = is_crossing(arc) || (arc.to_staging && leads_out[i]);
        hop.step = parent.step + 1;
        hop.delay = parent.delay + (leaves && crossed_before && !parent.to_staging ? 1 : 0);
        crossed = crossed || crossed_before;
      }
      has_crossed.push_back(crossed);
      plan_.hops.push_back(hop);
    }
  }

  const Fabric& fabric_;
  Plan& plan_;
  std::vector<Draft> drafts_;
  std::unordered_multimap<std::uint64_t, std::size_t> known_;  // drafts by digest of their tree
};

}  // namespace

void emit_routes(const Fabric& fabric, const std::vector<Demand>& demands, Plan* plan) {
  Emitter(fabric, plan).run(demands);
}

}  // namespace reshard::routing
