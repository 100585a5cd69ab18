// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/exec/relay_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>

namespace reshard::testing {
namespace {

/// Ranges that take the same tree.
struct Load {
  std::int32_t source = 0;
  std::vector<std::int32_t> receivers;
  std::vector<Range> ranges;
};

class Relayer {
 public:
  Relayer(Choices* choices, Plan* plan) : choices_(choices), plan_(plan) {}

  void run() {
    plan_->ranges.clear();
    plan_->hops.clear();
    plan_->routes.clear();
    choose_orders();
    for (std::int32_t b = 0; b < static_cast<std::int32_t>(plan_->bundles.size()); ++b) cut(b);
    for (Load& load : loads_) add_route(load);
  }

 private:
  std::int32_t pick(std::int64_t count) { return static_cast<std::int32_t>(choices_->pick(count)); }
  template <typename T>
  T pick_of(const std::vector<T>& values) {
    return at(values, choices_->pick(static_cast<std::int64_t>(values.size())));
  }

  void choose_orders() {
    const auto num_groups = static_cast<std::int64_t>(plan_->groups.size());
    plan_->options.open_groups = pick(4);  // 0: no limit
    if (pick(3) == 2) plan_->num_slots = 1;
    plan_->most_in_flight = pick(5);
    // Few different orders, so that trees have more than one receiver.
    const std::vector<std::int32_t> firsts = {0, pick(std::max<std::int64_t>(num_groups, 1)),
                                              pick(std::max<std::int64_t>(num_groups, 1))};
    for (std::int32_t& first : plan_->first_groups) first = pick_of(firsts);
  }

  /// Cuts a bundle's stream into pieces of whole elements, and gives each piece to receivers of one order of groups.
  void cut(std::int32_t id) {
    const Bundle& bundle = at(plan_->bundles, id);
    std::vector<std::int64_t> cuts = {0, bundle.size_bytes};
    for (std::int32_t more = pick(3); more > 0 && bundle.size_bytes > 0; --more) {
      const Strands strands = plan_->strands(bundle);
      const Strand strand = strands[static_cast<std::size_t>(pick(static_cast<std::int64_t>(strands.size())))];
      const std::int64_t end = strand.end_bytes;
      const std::int64_t element_bytes = at(plan_->tensors, strand.tensor).wire_bytes;
      cuts.push_back(strand.begin_bytes + pick((end - strand.begin_bytes) / element_bytes) * element_bytes);
    }
    std::sort(cuts.begin(), cuts.end());
    for (std::size_t i = 1; i < cuts.size(); ++i) {
      if (cuts[i - 1] < cuts[i]) deal(bundle, {id, cuts[i - 1], cuts[i]});
    }
  }

  void deal(const Bundle& bundle, const Range& range) {
    std::map<std::int32_t, std::vector<std::int32_t>> of_order;
    for (const std::int32_t rank : plan_->sets.ranks(bundle.destinations)) {
      if (!plan_->sets.contains(bundle.sources, rank)) of_order[at(plan_->first_groups, rank)].push_back(rank);
    }
    for (const auto& [first_group, receivers] : of_order) {
      const std::int32_t source = pick_of(plan_->sets.ranks(bundle.sources));
      const auto same = std::find_if(loads_.begin(), loads_.end(), [&, &mine = receivers](const Load& load) {
        return load.source == source && load.receivers == mine;
      });
      if (same != loads_.end() && pick(2) == 0) {
        same->ranges.push_back(range);
      } else {
        loads_.push_back({source, receivers, {range}});
      }
    }
  }

  void add_route(const Load& load) {
    Route route;
    route.first_range = static_cast<std::int64_t>(plan_->ranges.size());
    route.first_hop = static_cast<std::int64_t>(plan_->hops.size());
    route.num_ranges = static_cast<std::int32_t>(load.ranges.size());
    route.first_group = at(plan_->first_groups, load.receivers.front());
    for (const Range& range : load.ranges) route.size_bytes += range.end - range.begin;
    route.first_round = static_cast<std::int32_t>(plan_->rounds.size());
    route.num_rounds = pick(4);
    for (std::int32_t i = 0, round = 0; i < route.num_rounds; ++i) plan_->rounds.push_back(round += pick(3));
    const std::vector<Hop> hops = grow_tree(load);
    route.num_hops = static_cast<std::int32_t>(hops.size());
    plan_->ranges.insert(plan_->ranges.end(), load.ranges.begin(), load.ranges.end());
    plan_->hops.insert(plan_->hops.end(), hops.begin(), hops.end());
    plan_->routes.push_back(route);
  }

  std::vector<Hop> grow_tree(const Load& load) {
    std::vector<std::int32_t> open = load.receivers;
    std::vector<std::int32_t> others;  // may keep windows in staging
    for (std::int32_t rank = 0; rank < plan_->num_ranks; ++rank) {
      const bool receives = std::binary_search(open.begin(), open.end(), rank);
      if (!receives && rank != load.source) others.push_back(rank);
    }
    std::vector<Hop> hops;
    while (!open.empty()) {
      // The newest one makes chains.
      const auto count = static_cast<std::int32_t>(hops.size());
      std::int32_t parent = pick(2) == 0 ? count - 1 : pick(count + 1) - 1;
      for (std::int32_t stops = pick(3); stops > 0 && !others.empty(); --stops) {
        parent = add_hop(load.source, parent, take_one(&others), true, &hops);
      }
      add_hop(load.source, parent, take_one(&open), false, &hops);
    }
    return hops;
  }

  std::int32_t take_one(std::vector<std::int32_t>* ranks) {
    const auto chosen = ranks->begin() + pick(static_cast<std::int64_t>(ranks->size()));
    const std::int32_t rank = *chosen;
    ranks->erase(chosen);
    return rank;
  }

  std::int32_t add_hop(std::int32_t source, std::int32_t parent, std::int32_t dst, bool to_staging,
                       std::vector<Hop>* hops) {
    Hop hop;
    hop.dst = dst;
    hop.parent = parent;
    hop.to_staging = to_staging;
    hop.src = source;
    if (parent >= 0) {
      const Hop& before = at(*hops, parent);
      hop.src = before.dst;
      hop.step = static_cast<std::int16_t>(before.step + 1);
      hop.delay = static_cast<std::int16_t>(before.delay + (before.to_staging ? 0 : pick(3)));
    }
    hops->push_back(hop);
    return static_cast<std::int32_t>(hops->size()) - 1;
  }

  Choices* choices_;
  Plan* plan_;
  std::vector<Load> loads_;
};

}  // namespace

void relay_at_random(Choices* choices, Plan* plan) {
  Relayer(choices, plan).run();
  plan->hash = hash_plan(*plan);
}

void append_route(std::int32_t bundle, std::vector<Hop> hops, Plan* plan) {
  for (Hop& hop : hops) {
    if (hop.parent < 0) continue;
    const Hop& parent = at(hops, hop.parent);
    hop.step = static_cast<std::int16_t>(parent.step + 1);
    hop.delay = static_cast<std::int16_t>(parent.delay + (parent.to_staging ? 0 : 1));
  }
  Route route;
  route.first_range = static_cast<std::int64_t>(plan->ranges.size());
  route.first_hop = static_cast<std::int64_t>(plan->hops.size());
  route.num_ranges = 1;
  route.num_hops = static_cast<std::int32_t>(hops.size());
  route.size_bytes = at(plan->bundles, bundle).size_bytes;
  plan->ranges.push_back({bundle, 0, route.size_bytes});
  plan->hops.insert(plan->hops.end(), hops.begin(), hops.end());
  plan->routes.push_back(route);
}

Plan along(const std::vector<Hop>& hops) {
  auto src = std::make_shared<ModelLayout>(4);
  auto dst = std::make_shared<ModelLayout>(4);
  for (ModelLayout* side : {src.get(), dst.get()}) {
    Placement placement;
    placement.mesh = side == src.get() ? *Mesh::create({{"r", 1}}, {0}) : *Mesh::create({{"r", 2}}, {1, 2});
    placement.dims.resize(1);
    placement.buffer = side->add_buffer("t", DType::kF32);
    EXPECT_TRUE(side->place(*side->add_tensor({"t", DType::kF32, {4'000}, 0}), placement).ok());
  }
  Plan plan = *prepare_plan(src, dst, {4096});
  plan.first_groups.assign(4, 0);
  plan.most_in_flight = 4;
  append_route(0, hops, &plan);
  EXPECT_TRUE(check_routes(plan).ok()) << check_routes(plan).message();
  return plan;
}

}  // namespace reshard::testing
