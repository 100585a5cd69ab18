// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include "src/plan/estimate.h"
#include "src/plan/report/report.h"
#include "tests/unit/plan/best_order.h"
#include "tests/unit/plan/best_plan.h"
#include "tests/unit/plan/fleet.h"
#include "tests/unit/plan/hand_machine.h"

// What is printed as a bound is held against the best of all plans: those that relay through ranks that want nothing,
// enter a domain twice, and pass on what they receive; with ranks that hold some bytes and want others.

namespace reshard {
namespace {

using testing::Choices;
using testing::hand_machine;
using testing::HandRank;
using testing::kMega;
using testing::least_time;
using testing::Mask;
using testing::Need;

constexpr double kRounding = 1e-6;

/// What the best of all plans is compared with: a plan, and the needs that it serves.
struct Case {
  std::map<Need, std::int64_t> needs;
  std::optional<Plan> plan;
};

void place_whole(ModelLayout* layout, const Tensor& tensor, Mask ranks) {
  std::vector<std::int32_t> members;
  for (std::int32_t rank = 0; rank < layout->num_ranks(); ++rank) {
    if ((ranks >> rank & 1U) != 0) members.push_back(rank);
  }
  const std::int64_t id = *layout->add_tensor(tensor);
  Placement placement;
  placement.mesh = *Mesh::create({{"dp", static_cast<std::int64_t>(members.size())}}, members);
  placement.dims.resize(1);
  placement.buffer = layout->add_buffer(tensor.name, tensor.dtype);
  RC_ASSERT(layout->place(id, placement).ok());
}

/// A tensor for every need, whole on each of its ranks. `open_groups` > 0: taken in order, so many at once.
Case case_of(const Machine& machine, const std::map<Need, std::int64_t>& needs, std::int64_t open_groups = 0) {
  auto src = std::make_shared<ModelLayout>(machine.num_ranks());
  auto dst = std::make_shared<ModelLayout>(machine.num_ranks());
  for (const auto& [need, bytes] : needs) {
    const Tensor tensor{"t" + std::to_string(src->tensors().size()), DType::kU8, {bytes}, need.group};
    place_whole(src.get(), tensor, need.sources);
    place_whole(dst.get(), tensor, need.wanted);
  }
  Case out{needs, std::nullopt};
  PlanOptions options = testing::options_for(machine);
  options.open_groups = open_groups;
  options.order = GroupOrder::kFixed;
  Result<Plan> plan = create_plan(src, dst, options);
  RC_LOG() << plan.status().message();
  if (plan.ok()) out.plan = std::move(plan).take();
  RC_ASSERT((plan.ok() || machine.rail_isolated));
  return out;
}

std::map<Need, std::int64_t> random_needs(Choices* choices, std::int32_t num_ranks) {
  std::map<Need, std::int64_t> needs;
  const std::int64_t count = 1 + choices->pick(3);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto some = [&] { return static_cast<Mask>(1 + choices->pick((1 << num_ranks) - 1)); };
    // Mostly few holders, for then relays are worth something.
    const Mask sources = choices->pick(3) > 0 ? Mask{1} << choices->pick(num_ranks) : some();
    needs[{sources, some(), i}] += 1000 * (1 + choices->pick(2000));
  }
  return needs;
}

/// Domains of any sizes; ports that are shared, missing or slow; links and memories that limit or do not.
Machine random_hand_machine(Choices* choices, std::int32_t num_ranks) {
  const auto rate = [&] { return kMega << choices->pick(5); };
  std::vector<HandRank> ranks;
  std::int32_t node = 0;
  for (std::int32_t rank = 0; rank < num_ranks; ++rank) {
    if (rank > 0 && choices->pick(2) == 1) ++node;
    const auto rail = static_cast<std::int32_t>(choices->pick(3));
    ranks.push_back({node, rail, rate(), choices->pick(4) == 1 ? 0 : rate()});
    const bool is_first = rank == 0 || ranks[ranks.size() - 2].node != node;
    if (!is_first && choices->pick(4) == 1) ranks.back().rail = -1;
  }
  Machine machine = hand_machine(ranks);
  for (Machine::Gpu& gpu : machine.gpus) {
    if (choices->pick(4) == 1) gpu.memory.nominal_bytes_per_s = 2 * rate();
    if (choices->pick(3) == 1) gpu.pcie.nominal_bytes_per_s = rate();
  }
  for (Machine::Port& port : machine.ports) {
    if (choices->pick(3) == 1) port.in.nominal_bytes_per_s = rate();
  }
  machine.rail_isolated = choices->pick(4) == 1;
  return machine;
}

/// The same without latencies, which a fluid has not.
Machine random_fabric(Choices* choices, std::int32_t num_ranks) {
  Machine machine = *testing::make_random_machine(choices, num_ranks);
  for (Machine::Gpu& gpu : machine.gpus) gpu.link.latency_ns = gpu.pcie.latency_ns = 0;
  for (Machine::Port& port : machine.ports) port.out.latency_ns = port.in.latency_ns = 0;
  return machine;
}

void expect_below(const std::vector<Bound>& bounds, double best) {
  for (const Bound& bound : bounds) {
    RC_LOG() << bound.name << " (" << bound.resource << "): " << bound.seconds << " s, the best plan " << best
             << " s\n";
    if (bound.name != "LB10 latency") RC_ASSERT(bound.seconds <= best * (1 + kRounding));
  }
}

RC_GTEST_PROP(EveryPlanTest, TakesNoLessThanAnyBound, ()) {
  const std::vector<std::uint32_t> numbers = testing::random_numbers();
  Choices choices(numbers);
  const auto num_ranks = static_cast<std::int32_t>(2 + choices.pick(4));
  const Machine machine =
      choices.pick(3) == 1 ? random_fabric(&choices, num_ranks) : random_hand_machine(&choices, num_ranks);
  const Case given = case_of(machine, random_needs(&choices, num_ranks));
  if (!given.plan.has_value()) return;
  const double best = least_time(machine, given.needs, testing::time_limits(machine));
  RC_ASSERT(best >= 0);
  const Result<Estimate> found = estimate(*given.plan);
  RC_LOG() << found.status().message();
  RC_ASSERT(found.ok());
  RC_ASSERT(found->seconds >= best * (1 - kRounding));  // ours is one of them
  expect_below(found->bounds, best);
  RC_CLASSIFY(found->bound.seconds > 0.99 * best, "the best plan reaches the bound");
  RC_CLASSIFY(found->seconds > 1.1 * best, "ours is not the best");
  for (int i = 0; i < 8; ++i) {  // other prices for LB9: any ports may be those that are busy
    std::vector<std::int64_t> loads;
    for (std::int32_t r = 0; r < machine.num_resources(); ++r) {
      loads.push_back(choices.pick(2) * machine.link_of(r).bytes_per_s());
    }
    expect_below(find_bounds(*given.plan, loads), best);
  }
}

/// A few holders of some groups each, one to a domain, behind ports that are mostly slower than those of the takers:
/// then it matters which of them may send at the same time.
Machine stages_machine(Choices* choices, std::int32_t num_holders, std::int32_t num_ranks) {
  std::vector<HandRank> ranks;
  for (std::int32_t rank = 0; rank < num_holders; ++rank) ranks.push_back({rank, 0, kMega << choices->pick(2)});
  std::int32_t node = num_holders;
  for (std::int32_t rank = num_holders; rank < num_ranks; ++rank) {
    const std::int64_t link = choices->pick(3) == 0 ? 0 : kMega << choices->pick(4);
    ranks.push_back({node, static_cast<std::int32_t>(choices->pick(2)), kMega << choices->pick(4), link});
    if (choices->pick(3) > 0) ++node;
  }
  return hand_machine(ranks);
}

// LB11, the only bound that supposes an order.
RC_GTEST_PROP(EveryPlanTest, InOrderTakesNoLessThanAnyBound, ()) {
  const std::vector<std::uint32_t> numbers = testing::random_numbers();
  Choices choices(numbers);
  const auto num_holders = static_cast<std::int32_t>(2 + choices.pick(2));
  const auto num_ranks = num_holders + static_cast<std::int32_t>(1 + choices.pick(4 - num_holders));
  const bool is_any = choices.pick(4) == 0;
  const Machine machine =
      is_any ? random_hand_machine(&choices, num_ranks) : stages_machine(&choices, num_holders, num_ranks);
  const std::int64_t open_groups = 1 + choices.pick(2);
  std::map<Need, std::int64_t> needs;
  const std::int64_t count = 2 + choices.pick(2);
  for (std::int64_t i = 0; i < count; ++i) {
    Mask wanted = ((Mask{1} << num_ranks) - 1) & ~((Mask{1} << num_holders) - 1);  // all takers, or any ranks
    if (choices.pick(3) == 0) wanted = static_cast<Mask>(1 + choices.pick((1 << num_ranks) - 1));
    needs[{Mask{1} << choices.pick(num_holders), wanted, choices.pick(4)}] += 1000 * (1 + choices.pick(2000));
  }
  if (testing::num_waits(machine.gpus.size(), needs, open_groups) > 4) return;  // takes minutes
  const Case given = case_of(machine, needs, open_groups);
  if (!given.plan.has_value()) return;
  const double best = testing::least_time_in_order(machine, needs, testing::time_limits(machine), open_groups);
  RC_ASSERT(best >= least_time(machine, needs, testing::time_limits(machine)) * (1 - kRounding));
  const Result<Estimate> found = estimate(*given.plan);
  RC_LOG() << found.status().message();
  RC_ASSERT(found.ok());
  expect_below(found->bounds, best);
  RC_CLASSIFY(found->bound.name == "LB11 order", "the order is what bounds");
  RC_CLASSIFY(found->bound.name == "LB11 order" && found->bound.seconds > 0.99 * best, "the best plan reaches LB11");
}

TEST(EveryPlanTest, InOrderTheBestIsWhatClosedFormsSay) {
  // Two stages of 1 MB behind ports of 1 MB/s, to a rank that takes 2 MB/s: one group at a time 2 s, two at once 1 s.
  const Machine stages = hand_machine({{0}, {1}, {2, 0, 2 * kMega}});
  const std::map<Need, std::int64_t> needs = {{{1, 4, 0}, kMega}, {{2, 4, 1}, kMega}};
  const auto best = [&](std::int64_t open_groups) {
    return testing::least_time_in_order(stages, needs, testing::time_limits(stages), open_groups);
  };
  EXPECT_NEAR(best(1), 2.0, 1e-6);
  EXPECT_NEAR(best(2), 1.0, 1e-6);
  // Two takers in step let one stage send at a time, in twice the time as a copy for each leaves it: 2 s, since what
  // one of them has it passes on to the other, in the next phase too.
  const Machine takers = hand_machine({{0}, {1}, {2}, {3}});
  const std::map<Need, std::int64_t> both = {{{1, 12, 0}, kMega}, {{2, 12, 1}, kMega}};
  EXPECT_NEAR(testing::least_time_in_order(takers, both, testing::time_limits(takers), 1), 2.0, 1e-6);
}

RC_GTEST_PROP(EveryPlanTest, HasARankThatSendsAndOneThatReceivesNoLessThanTheReportSays, ()) {
  const std::vector<std::uint32_t> numbers = testing::random_numbers();
  Choices choices(numbers);
  const auto num_ranks = static_cast<std::int32_t>(2 + choices.pick(4));
  const Machine machine = random_hand_machine(&choices, num_ranks);
  const Case given = case_of(machine, random_needs(&choices, num_ranks));
  if (!given.plan.has_value()) return;
  const PlanStats stats = count_plan(*given.plan);
  const double sent = least_time(machine, given.needs, testing::send_limits(machine));
  const double received = least_time(machine, given.needs, testing::receive_limits(machine));
  RC_LOG() << stats.senders.bound_bytes << " of " << sent << " sent, " << stats.receivers.bound_bytes << " of "
           << received << " received\n";
  RC_ASSERT(static_cast<double>(stats.senders.bound_bytes) <= sent * (1 + kRounding) + 1);
  RC_ASSERT(static_cast<double>(stats.receivers.bound_bytes) <= received * (1 + kRounding) + 1);
  RC_CLASSIFY(static_cast<double>(stats.senders.bound_bytes) >= 0.99 * sent, "sends just that");
  RC_ASSERT(stats.senders.bound_bytes <= stats.senders.max_bytes);
  RC_ASSERT(stats.receivers.bound_bytes <= stats.receivers.max_bytes);
}

TEST(EveryPlanTest, TheBestOfAllIsWhatClosedFormsSay) {
  // One holder and three takers in a domain of links of 1 MB/s: scattered in thirds and gathered, 1 s for 1 MB.
  const Machine scatter = hand_machine({{0, 0, kMega, kMega}, {0, 0, 0, kMega}, {0, 0, 0, kMega}, {0, 0, 0, kMega}});
  EXPECT_NEAR(least_time(scatter, {{{1, 14, 0}, kMega}}, testing::time_limits(scatter)), 1.0, 1e-6);
  // A chain over three domains of one rank: 1 s; with direct copies alone 3 s.
  const Machine chain = hand_machine({{0}, {1}, {2}, {3}});
  EXPECT_NEAR(least_time(chain, {{{1, 14, 0}, kMega}}, testing::time_limits(chain)), 1.0, 1e-6);
  // Links slower than ports: two ranks of a domain take a copy each over their ports of 2 MB/s, and an eighth less by
  // what links of 1/4 MB/s bring beside them.
  const Machine twice =
      hand_machine({{0, 0, 8 * kMega, 0}, {1, 0, 2 * kMega, kMega / 4}, {1, 1, 2 * kMega, kMega / 4}});
  EXPECT_NEAR(least_time(twice, {{{1, 6, 0}, 9 * kMega}}, testing::time_limits(twice)), 4.0, 1e-6);
}

TEST(EveryPlanTest, RelaysThatHaveNothingAndWantNothingAreCounted) {
  // Rank 0 feeds ranks 1 and 2, all behind ports that send 1 MB/s; rank 3 wants nothing, and sends 16 MB/s.
  Machine machine = hand_machine({{0}, {1}, {2}, {3, 0, 16 * kMega}});
  for (std::size_t port = 0; port < 3; ++port) machine.ports[PortId(port)].in.nominal_bytes_per_s = 16 * kMega;
  for (std::size_t port = 1; port < 3; ++port) machine.ports[PortId(port)].out.nominal_bytes_per_s = kMega / 100;
  const std::map<Need, std::int64_t> needs = {{{1, 6, 0}, kMega}};
  EXPECT_NEAR(least_time(machine, needs, testing::time_limits(machine)), 1.0, 1e-6);
  const Case given = case_of(machine, needs);
  ASSERT_TRUE(given.plan.has_value());
  std::vector<std::int64_t> loads(static_cast<std::size_t>(machine.num_resources()));
  for (std::int32_t port = 0; port < 3; ++port) {  // every port out but that of the relay is busy
    const std::int32_t resource = machine.resource(ResourceKind::kNicOut, port);
    at(loads, resource) = machine.link_of(resource).bytes_per_s();
  }
  for (const Bound& bound : find_bounds(*given.plan, loads)) EXPECT_LE(bound.seconds, 1.0 + 1e-6) << bound.name;
}

}  // namespace
}  // namespace reshard
