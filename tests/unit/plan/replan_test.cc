// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>

#include "src/plan/estimate.h"
#include "src/plan/replan.h"
#include "tests/unit/plan/fleet.h"

namespace reshard {
namespace {

using testing::Choices;

/// Bytes from rank to rank.
std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> legs(const Plan& plan) {
  std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> out;
  for (const Route& route : plan.routes) {
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop& hop = plan.begin_hops(route)[h];
      out[{hop.src, hop.dst}] += route.size_bytes;
    }
  }
  return out;
}

/// Some destination ranks of the plan, chosen by the numbers; all of them are never chosen.
std::vector<std::int32_t> some_destinations(const Plan& plan, Choices* choices) {
  std::set<std::int32_t> ranks;
  for (const Bundle& bundle : plan.bundles) {
    ranks.insert(plan.sets.ranks(bundle.destinations).begin(), plan.sets.ranks(bundle.destinations).end());
  }
  std::vector<std::int32_t> out;
  for (const std::int32_t rank : ranks) {
    if (choices->pick(4) == 0 && out.size() + 1 < ranks.size()) out.push_back(rank);
  }
  return out;
}

std::shared_ptr<const ModelLayout> without(const ModelLayout& layout, const std::vector<std::int32_t>& lost) {
  auto copy = std::make_shared<ModelLayout>(layout);
  RC_ASSERT(copy->remove_ranks(lost).ok());
  return copy;
}

void check_ways(const Plan& plan) {
  const Machine& machine = *plan.options.machine;
  for (const Route& route : plan.routes) {
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop& hop = plan.begin_hops(route)[h];
      const bool is_joined =
          machine.same_domain(RankId(hop.src), RankId(hop.dst)) || machine.reaches(RankId(hop.src), RankId(hop.dst));
      RC_ASSERT(is_joined);
    }
  }
}

RC_GTEST_PROP(ReplanTest, TheSameLayoutsChangeNothing, ()) {
  const std::vector<std::uint32_t> numbers = testing::random_numbers();
  const std::optional<Plan> plan = testing::random_plan(numbers);
  if (!plan.has_value()) return;
  Changes changes;
  const Result<Plan> again = replan(*plan, plan->src, plan->dst, &changes);
  RC_ASSERT(again.ok());
  RC_ASSERT(changes.bytes_changed == 0);
  RC_ASSERT(changes.bundles_changed == 0);
  RC_ASSERT(legs(*again) == legs(*plan));
}

RC_GTEST_PROP(ReplanTest, LostAndNewRanksGiveCompletePlans, ()) {
  const std::vector<std::uint32_t> numbers = testing::random_numbers();
  const std::optional<Plan> plan = testing::random_plan(numbers);
  if (!plan.has_value()) return;
  const std::vector<std::uint32_t> more = testing::random_numbers();
  Choices choices(more);
  const std::vector<std::int32_t> lost = some_destinations(*plan, &choices);
  Changes changes;
  const Result<Plan> fewer = replan(*plan, plan->src, without(*plan->dst, lost), &changes);
  RC_ASSERT(fewer.ok());
  const Status complete = check_routes(*fewer);
  RC_LOG() << complete.message();
  RC_ASSERT(complete.ok());
  check_ways(*fewer);
  RC_ASSERT(changes.bytes_changed <= changes.bytes);
  // And back: the lost ranks are new.
  const Result<Plan> back = replan(*fewer, plan->src, plan->dst, &changes);
  RC_ASSERT(back.ok());
  const Status complete_again = check_routes(*back);
  RC_LOG() << complete_again.message();
  RC_ASSERT(complete_again.ok());
  check_ways(*back);
  RC_CLASSIFY(changes.bytes_changed > 0 && changes.bytes_changed < changes.bytes, "partly kept");
}

/// 2 trainer nodes to 4 replicas of one node each, one GPU and one port to a rank.
TEST(ReplanTest, ALostReplicaIsCutOutOfItsTrees) {
  auto machine = std::make_shared<Machine>();
  machine->leaves.resize(1);
  machine->pods.resize(1);
  const Link nic{1'000'000'000, 1000, 0};
  const Link link{8'000'000'000, 1000, 0};
  for (std::int32_t node = 0; node < 5; ++node) {
    machine->nodes.push_back({"n" + std::to_string(node), 0});
    machine->domains.emplace_back();
    for (std::int32_t g = 0; g < 2; ++g) {
      const std::int32_t rank = 2 * node + g;
      machine->gpus.push_back({NodeId(node), DomainId(node), PortId(rank), link, {}, 0});
      machine->ports.push_back({NodeId(node), RailId(g), LeafId(0), nic, nic, "nic"});
      machine->domains.back().ranks.push_back(rank);
      machine->domains.back().ports.push_back(rank);
    }
  }
  auto src = std::make_shared<ModelLayout>(10);
  auto dst = std::make_shared<ModelLayout>(10);
  testing::add_sharded(src.get(), {"w", DType::kBF16, {1024, 64}, 0}, 0, 1, 2);
  testing::add_sharded(dst.get(), {"w", DType::kBF16, {1024, 64}, 0}, 2, 4, 2);
  PlanOptions options;
  options.machine = machine;
  const Result<Plan> plan = create_plan(src, dst, options);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  auto fewer = std::make_shared<ModelLayout>(*dst);
  ASSERT_TRUE(fewer->remove_ranks({4, 5}).ok());
  Changes changes;
  const Result<Plan> now = replan(*plan, src, fewer, &changes);
  ASSERT_TRUE(now.ok()) << now.status().message();
  EXPECT_GE(changes.bytes, 3 * 1024 * 64 * 2);
  EXPECT_LE(changes.bytes_changed, changes.bytes);
  const auto load_seconds = [](const Plan& its) {
    const Result<Estimate> found = estimate(its);
    return found.ok() ? found->seconds - found->fill_seconds : -1.0;
  };
  const Result<Plan> anew = create_plan(src, fewer, options);
  ASSERT_TRUE(anew.ok()) << anew.status().message();
  EXPECT_GT(load_seconds(*now), 0);
  EXPECT_LE(load_seconds(*now), 1.05 * load_seconds(*anew));
  EXPECT_TRUE(check_routes(*now).ok());
}

}  // namespace
}  // namespace reshard
