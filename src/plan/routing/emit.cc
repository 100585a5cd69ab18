// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/emit.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "src/plan/line.h"

namespace reshard::routing {
namespace {

class Emitter {
 public:
  Emitter(const Fabric& fabric, const std::vector<std::vector<std::int32_t>>& twins, Plan* plan)
      : fabric_(fabric), twins_(twins), plan_(*plan) {}

  std::int64_t run(std::vector<Demand> demands) {
    for (Demand& demand : demands) {
      cut(demand);
      demand = {};
    }
    std::size_t num_hops = plan_.hops.size();
    for (const Draft& draft : drafts_) num_hops += draft.tree->arcs.size() * num_sections();
    if (num_hops > plan_.hops.capacity()) plan_.hops.reserve(std::max(num_hops, plan_.hops.size() * 3 / 2));
    for (Draft& draft : drafts_) {
      add_route(draft);
      draft = {};  // trees are most of the planner's memory, so none is kept that has become hops
    }
    return num_kept_;
  }

 private:
  /// A route in the making.
  struct Draft {
    TreePtr tree;
    std::vector<Range> ranges;
  };

  /// The draft of this tree, whoever else takes it.
  std::size_t draft_of(const TreePtr& grown) {
    TreePtr tree = without_idle_relays(grown);
    const std::uint64_t digest = tree->digest();
    const auto [first, last] = known_.equal_range(digest);
    const auto same = std::find_if(first, last, [&](const auto& entry) {
      const TreePtr& known = drafts_[entry.second].tree;
      return known == tree || *known == *tree;
    });
    if (same != last) return same->second;
    known_.emplace(digest, drafts_.size());
    drafts_.push_back({std::move(tree), {}});
    return drafts_.size() - 1;
  }

  /// What trees carry of a demand. A cut may move to where it costs least, by little of the bundle and by little of
  /// what any tree carries: the smallest share would else be lost, and with it what it was for.
  struct Division {
    std::vector<std::size_t> drafts;         ///< ascending
    std::vector<std::int64_t> bytes;         ///< by draft that are not given out yet
    std::vector<std::vector<Range>> ranges;  ///< that are
    std::int64_t tolerance = 0;

    void give(std::size_t part, const Range& range) {
      bytes[part] = std::max<std::int64_t>(0, bytes[part] - (range.end - range.begin));
      ranges[part].push_back(range);
    }
  };

  void cut(const Demand& demand) {
    std::vector<std::pair<std::size_t, const Share*>> shares;
    for (const Share& share : demand.shares) shares.emplace_back(draft_of(share.tree), &share);
    std::sort(shares.begin(), shares.end(), [](const auto& a, const auto& b) {
      return std::pair{a.first, a.second->bytes} < std::pair{b.first, b.second->bytes};
    });
    Division division;
    division.tolerance = demand.bytes() / 200;
    for (const auto& [draft, share] : shares) {
      division.drafts.push_back(draft);
      division.bytes.push_back(share->bytes);
      division.tolerance = std::min(division.tolerance, share->bytes / 64);
    }
    division.ranges.resize(shares.size());
    std::vector<const Tree*> trees;
    for (const auto& [draft, share] : shares) trees.push_back(share->tree.get());
    divide(keep_former(demand, trees, &division), &division);
    for (std::size_t part = 0; part < shares.size(); ++part) add_ranges(division.drafts[part], division.ranges[part]);
  }

  /// Gives bytes to the trees that they had, as far as these carry so many. What is left of the demand, ascending.
  std::vector<Range> keep_former(const Demand& demand, const std::vector<const Tree*>& trees, Division* division) {
    std::vector<Range> left;
    std::int64_t position = demand.range.begin;
    const auto leave = [&](const Range& range) {
      if (range.begin < range.end) left.push_back(range);
    };
    for (const Former& former : demand.former) {
      leave({demand.range.bundle, position, former.range.begin});
      position = former.range.end;
      const auto mine =
          std::find_if(trees.begin(), trees.end(), [&](const Tree* tree) { return begins_with(*tree, *former.part); });
      const auto part = static_cast<std::size_t>(mine - trees.begin());
      const std::int64_t size = former.range.end - former.range.begin;
      const std::int64_t kept = mine == trees.end() ? 0 : std::min(size, division->bytes[part]);
      Line line(plan_);
      line.add(former.range, 0);
      line.divide({kept, size - kept}, kept == size ? 0 : division->tolerance,
                  [&](std::size_t is_rest, std::size_t, const Range& range) {
                    if (is_rest == 1) return leave(range);
                    division->give(part, range);
                    num_kept_ += range.end - range.begin;
                  });
    }
    leave({demand.range.bundle, position, demand.range.end});
    return left;
  }

  void divide(const std::vector<Range>& left, Division* division) {
    if (left.empty()) return;
    Line line(plan_);
    for (const Range& range : left) line.add(range, 0);
    const std::vector<std::int64_t> bytes = division->bytes;
    line.divide(bytes, division->tolerance,
                [&](std::size_t part, std::size_t, const Range& range) { division->give(part, range); });
  }

  void add_ranges(std::size_t draft, std::vector<Range> more) {
    std::sort(more.begin(), more.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
    std::vector<Range>& ranges = drafts_[draft].ranges;
    for (const Range& range : more) {
      // Two trees that differed in idle relays alone are one, and their parts follow each other.
      if (!ranges.empty() && ranges.back().bundle == range.bundle && ranges.back().end == range.begin) {
        ranges.back().end = range.end;
      } else {
        ranges.push_back(range);
      }
    }
  }

  void add_route(const Draft& draft) {
    if (draft.ranges.empty()) return;  // its share was less than an element
    Route route;
    route.first_range = static_cast<std::int64_t>(plan_.ranges.size());
    route.first_hop = static_cast<std::int64_t>(plan_.hops.size());
    route.num_ranges = static_cast<std::int32_t>(draft.ranges.size());
    route.num_hops = static_cast<std::int32_t>(draft.tree->arcs.size() * num_sections());
    for (const Range& range : draft.ranges) {
      route.size_bytes += range.end - range.begin;
      plan_.ranges.push_back(range);
    }
    add_hops(*draft.tree);
    if (!twins_.empty()) repeat_hops(route.first_hop);
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

  std::size_t num_sections() const { return std::max<std::size_t>(1, twins_.size()); }

  /// The hops from `first` on are those of the first section, by place: now they become those of all.
  void repeat_hops(std::int64_t first) {
    const auto begin = static_cast<std::size_t>(first);
    const std::size_t count = plan_.hops.size() - begin;
    for (std::size_t section = twins_.size(); section-- > 1;) {
      const auto before = static_cast<std::int32_t>(plan_.hops.size() - begin);
      for (std::size_t i = 0; i < count; ++i) {
        Hop hop = plan_.hops[begin + i];
        name_ranks(twins_[section], &hop);
        if (hop.parent >= 0) hop.parent += before;
        plan_.hops.push_back(hop);
      }
    }
    for (std::size_t i = 0; i < count; ++i) name_ranks(twins_.front(), &plan_.hops[begin + i]);
  }

  static void name_ranks(const std::vector<std::int32_t>& ranks, Hop* hop) {
    hop->src = at(ranks, hop->src);
    hop->dst = at(ranks, hop->dst);
  }

  const Fabric& fabric_;
  const std::vector<std::vector<std::int32_t>>& twins_;
  Plan& plan_;
  std::vector<Draft> drafts_;
  std::int64_t num_kept_ = 0;                                  // bytes
  std::unordered_multimap<std::uint64_t, std::size_t> known_;  // drafts by digest of their tree
};

}  // namespace

std::int64_t emit_routes(const Fabric& fabric, std::vector<Demand> demands, Plan* plan) {
  const std::vector<std::vector<std::int32_t>> no_twins;
  return Emitter(fabric, no_twins, plan).run(std::move(demands));
}

void emit_routes_of_sections(const Fabric& fabric, std::vector<Demand> demands,
                             const std::vector<std::vector<std::int32_t>>& twins, Plan* plan) {
  Emitter(fabric, twins, plan).run(std::move(demands));
}

}  // namespace reshard::routing
