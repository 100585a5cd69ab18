// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <chrono>
#include <thread>

#include "src/exec/schedule.h"
#include "tests/unit/exec/relay_plan.h"
#include "tests/unit/exec/run.h"

namespace reshard {
namespace {

using ::testing::AnyOf;
using testing::append_route;
using testing::Choices;
using ::testing::HasSubstr;
using testing::kShortUs;
using testing::kTimeoutUs;
using testing::RankBuffers;
using testing::relay_at_random;
using testing::run_ranks;
using testing::run_world;
using testing::RunOptions;
using testing::Scenario;

class RelayTest : public ::testing::TestWithParam<int> {};

TEST_P(RelayTest, RandomTreesDeliverEveryElement) {
  ASSERT_TRUE(rc::check([&](const std::vector<std::uint32_t>& numbers) {
    Choices choices(numbers);
    RunOptions options;
    options.src_mappable = choices.pick(2) == 0;
    options.dst_mappable = choices.pick(2) == 0;
    options.spoils_groups = choices.pick(3) == 2;
    options.late_seed = choices.pick(2) == 0 ? 0 : 1 + static_cast<std::uint64_t>(choices.pick(1000));
    const std::int64_t staging = std::int64_t{8} << choices.pick(12);
    options.scenario = testing::make_scenario(&choices, GetParam());
    Result<Plan> plan = create_plan(options.scenario.src, options.scenario.dst, {staging});
    RC_ASSERT(plan.ok());
    relay_at_random(&choices, &*plan);
    const Status valid = check_routes(*plan);
    RC_ASSERT(valid.message() == "");
    options.plan = std::make_shared<const Plan>(std::move(plan).take());
    RC_ASSERT(run_world(options) == "");
  }));
}

INSTANTIATE_TEST_SUITE_P(Ranks, RelayTest, ::testing::Values(2, 3, 5, 8, 11), ::testing::PrintToStringParamName());

struct Copies {
  std::int32_t num_ranks = 5;
  std::vector<std::int32_t> receivers = {1, 2, 3};
  std::int64_t num_tensors = 3;
  std::int64_t num_elements = 10'000;  // some thirty windows of each tensor, where the staging is small
  DType src_dtype = DType::kF32;
  DType dst_dtype = DType::kF32;
};

/// Tensor t in group t lies whole on rank 0 and is wanted whole by every receiver: one bundle.
Scenario copies_of(const Copies& copies) {
  auto src = std::make_shared<ModelLayout>(copies.num_ranks);
  auto dst = std::make_shared<ModelLayout>(copies.num_ranks);
  const auto num_receivers = static_cast<std::int64_t>(copies.receivers.size());
  for (std::int64_t t = 0; t < copies.num_tensors; ++t) {
    for (ModelLayout* side : {src.get(), dst.get()}) {
      const bool is_src = side == src.get();
      Tensor tensor{"t" + std::to_string(t), is_src ? copies.src_dtype : copies.dst_dtype, {copies.num_elements}, t};
      Placement placement;
      placement.mesh =
          is_src ? *Mesh::create({{"r", 1}}, {0}) : *Mesh::create({{"r", num_receivers}}, copies.receivers);
      placement.dims.resize(1);
      placement.buffer = side->add_buffer(tensor.name, tensor.dtype);
      EXPECT_TRUE(side->place(*side->add_tensor(tensor), placement).ok());
    }
  }
  return {src, dst};
}

/// The scenario's one bundle along `hops`.
RunOptions relayed(const Copies& copies, std::int64_t staging_bytes, const std::vector<Hop>& hops) {
  RunOptions options;
  options.scenario = copies_of(copies);
  Plan plan = *prepare_plan(options.scenario.src, options.scenario.dst, {staging_bytes});
  EXPECT_EQ(plan.bundles.size(), 1U);
  plan.first_groups.assign(static_cast<std::size_t>(plan.num_ranks), 0);
  append_route(0, hops, &plan);
  plan.hash = hash_plan(plan);
  EXPECT_TRUE(check_routes(plan).ok()) << check_routes(plan).message();
  options.plan = std::make_shared<const Plan>(std::move(plan));
  return options;
}

const std::vector<Hop> kChain = {{0, 1}, {1, 2, 0}, {2, 3, 1}};
const std::vector<Hop> kFanFromStaging = {{0, 4, -1, 0, 0, true}, {4, 1, 0}, {4, 2, 0}, {4, 3, 0}};

TEST(RelayTest, ConvertedValuesAreForwardedExactly) {
  for (const auto& [from, to] : {std::pair{DType::kBF16, DType::kF32}, std::pair{DType::kF32, DType::kBF16},
                                 std::pair{DType::kF16, DType::kBF16}, std::pair{DType::kF16, DType::kF32}}) {
    Copies copies;
    copies.src_dtype = from;
    copies.dst_dtype = to;
    EXPECT_EQ(run_world(relayed(copies, 4096, kChain)), "");
    EXPECT_EQ(run_world(relayed(copies, 4096, kFanFromStaging)), "");
  }
}

TEST(RelayTest, AGroupMayBeSpoiledOnceItIsComplete) {
  for (const std::vector<Hop>& hops : {kChain, kFanFromStaging}) {
    RunOptions options = relayed({}, 4096, hops);
    options.spoils_groups = true;
    EXPECT_EQ(run_world(options), "");
    options = relayed({}, 64 << 20, hops);  // straight from the tensors
    options.spoils_groups = true;
    EXPECT_EQ(run_world(options), "");
  }
}

TEST(RelayTest, ContiguousRelaysNeedNoStagingAndSendWhatTheyReceive) {
  const RunOptions options = relayed({}, 64 << 20, kChain);
  run_ranks(5, [&](Transport* transport) -> std::string {
    RankBuffers src(*options.scenario.src, transport->rank(), transport, false);
    RankBuffers dst(*options.scenario.dst, transport->rank(), transport, false);
    auto binding = testing::bind({options.plan, transport, src.bound(), dst.bound(), 0, kTimeoutUs});
    EXPECT_TRUE(binding.ok());
    constexpr std::int64_t kBytes = 3 * 10'000 * 4;
    const std::int32_t rank = transport->rank();
    EXPECT_EQ((*binding)->volume().bytes_mapped, 0);
    EXPECT_EQ((*binding)->volume().bytes_sent, rank < 3 ? kBytes : 0);
    EXPECT_EQ((*binding)->volume().bytes_received, rank > 0 && rank < 4 ? kBytes : 0);
    return "";
  });
}

/// Whatever part of a chain is mapped is read in place, and only the rest is sent.
TEST(RelayTest, MappedPartsOfAChainAreRead) {
  const Copies copies;
  const std::int64_t num_bytes = copies.num_tensors * copies.num_elements * 4;
  for (const bool src_mappable : {true, false}) {
    for (const bool dst_mappable : {true, false}) {
      RunOptions options = relayed(copies, 4096, kChain);
      options.src_mappable = src_mappable;
      options.dst_mappable = dst_mappable;
      run_ranks(5, [&](Transport* transport) -> std::string {
        RankBuffers src(*options.scenario.src, transport->rank(), transport, src_mappable);
        RankBuffers dst(*options.scenario.dst, transport->rank(), transport, dst_mappable);
        auto binding = testing::bind({options.plan, transport, src.bound(), dst.bound(), 0, kTimeoutUs});
        EXPECT_TRUE(binding.ok());
        const std::int32_t rank = transport->rank();
        const bool reads = (rank == 1 && src_mappable) || ((rank == 2 || rank == 3) && dst_mappable);
        EXPECT_EQ((*binding)->volume().bytes_mapped, reads ? num_bytes : 0);
        const bool lends = rank == 0 ? src_mappable : dst_mappable;
        EXPECT_EQ((*binding)->volume().bytes_sent, rank < 3 && !lends ? num_bytes : 0);
        return "";
      });
      EXPECT_EQ(run_world(options), "");
    }
  }
}

/// Rank 0 sends and then stands still, so that it confirms nothing: what has landed on rank 1 may be of a run that rank
/// 0 gives up, and is not read by the others.
TEST(RelayTest, AWindowIsReadOnlyOnceItIsConfirmed) {
  if (testing::is_on_streams()) GTEST_SKIP() << "a run in streams goes on while its host stands still";
  for (const std::int64_t staging_bytes : {4096, 64 << 20}) {
    Copies copies;
    copies.num_elements = 50'000;  // rank 0 is not through with its sends when it stands still
    const RunOptions options = relayed(copies, staging_bytes, {{0, 1}, {1, 2, 0}, {1, 3, 0}});
    const std::string text = run_ranks(5, [&](Transport* transport) -> std::string {
      RankBuffers src(*options.scenario.src, transport->rank(), transport, false);
      RankBuffers dst(*options.scenario.dst, transport->rank(), transport, true);
      auto binding = testing::bind({options.plan, transport, src.bound(), dst.bound(), 0, kTimeoutUs});
      if (!binding.ok()) return binding.status().message();
      src.fill(1);
      dst.poison();
      Driver& driver = (*binding)->driver();
      const bool is_still = transport->rank() == 0;
      if (is_still) {
        EXPECT_TRUE(driver.start().ok() && driver.poll().ok());
      }
      if (!transport->allgather({}, Deadline(kTimeoutUs)).ok()) return "barrier";
      if (!is_still) {
        EXPECT_TRUE(driver.start().ok());
        const Status status = driver.finish(Deadline(kShortUs));
        if (transport->rank() < 4) {
          EXPECT_THAT(status.code(), AnyOf(RESHARD_ERR_TIMEOUT, RESHARD_ERR_ABANDONED)) << transport->rank();
          EXPECT_EQ(driver.num_groups_complete(), 0);
        }
      }
      if (!transport->allgather({}, Deadline(kTimeoutUs)).ok()) return "barrier";
      if (is_still) {
        EXPECT_EQ(driver.finish(Deadline(kTimeoutUs)).code(), RESHARD_ERR_ABANDONED);
      }
      return transport->allgather({}, Deadline(kTimeoutUs)).ok() ? "" : "barrier";
    });
    EXPECT_EQ(text, "");
  }
}

/// Rank 1 never starts: what it should pass on comes nowhere, and everybody else says so within the deadline.
TEST(RelayTest, ARelayThatStandsStillIsATimeoutForTheOthers) {
  for (const std::vector<Hop>& hops : {kChain, std::vector<Hop>{{0, 1}, {1, 4, 0, 0, 0, true}, {4, 2, 1}, {4, 3, 1}}}) {
    const RunOptions options = relayed({}, 4096, hops);
    const std::string text = run_ranks(5, [&](Transport* transport) -> std::string {
      RankBuffers src(*options.scenario.src, transport->rank(), transport, true);
      RankBuffers dst(*options.scenario.dst, transport->rank(), transport, true);
      auto binding = testing::bind({options.plan, transport, src.bound(), dst.bound(), 0, kTimeoutUs});
      if (!binding.ok()) return binding.status().message();
      Driver& driver = (*binding)->driver();
      const bool takes_part = transport->rank() != 4 || hops.size() == 4;
      if (transport->rank() != 1) {
        EXPECT_TRUE(driver.start().ok());
        const Status status = driver.finish(Deadline(kShortUs));
        if (takes_part) {
          EXPECT_THAT(status.code(), AnyOf(RESHARD_ERR_TIMEOUT, RESHARD_ERR_ABANDONED)) << transport->rank();
        } else {
          EXPECT_EQ(status.code(), RESHARD_OK) << transport->rank();
        }
        if (transport->rank() == 0) {
          EXPECT_THAT(status.message(), HasSubstr("ranks 1 "));
        }
      }
      if (!transport->allgather({}, Deadline(kTimeoutUs)).ok()) return "barrier";
      if (transport->rank() == 1) {  // starts the run that the others gave up, and is told
        EXPECT_TRUE(driver.start().ok());
        EXPECT_EQ(driver.finish(Deadline(kTimeoutUs)).code(), RESHARD_ERR_ABANDONED);
      }
      if (!transport->allgather({}, Deadline(kTimeoutUs)).ok()) return "barrier";
      if (testing::is_on_streams()) {
        const std::string wrong = takes_part ? testing::try_again_in_vain(&driver, false) : "";
        return transport->allgather({}, Deadline(kTimeoutUs)).ok() ? wrong : "barrier";
      }
      src.fill(2);
      dst.poison();
      EXPECT_TRUE(driver.start().ok());
      const Status status = driver.finish(Deadline(kTimeoutUs));
      const std::string wrong = status.ok() ? dst.check(2) : status.message();
      if (!transport->allgather({}, Deadline(kTimeoutUs)).ok()) return "barrier";
      return wrong;
    });
    EXPECT_EQ(text, "");
  }
}

/// Rank 3 passes one tensor on and gets another. While rank 2 sleeps, the slot of the one is taken, and messages of the
/// other must not take both places in flight: they wait behind windows of the one.
TEST(RelayTest, TwoMessagesInFlightAreEnoughForTwoLanes) {
  auto src = std::make_shared<ModelLayout>(4);
  auto dst = std::make_shared<ModelLayout>(4);
  for (const std::int32_t receiver : {2, 3}) {
    for (ModelLayout* side : {src.get(), dst.get()}) {
      const Tensor tensor{"to" + std::to_string(receiver), DType::kF32, {20'000}, 0};
      Placement placement;
      placement.mesh = *Mesh::create({{"r", 1}}, {side == src.get() ? 0 : receiver});
      placement.dims.resize(1);
      placement.buffer = side->add_buffer(tensor.name, tensor.dtype);
      EXPECT_TRUE(side->place(*side->add_tensor(tensor), placement).ok());
    }
  }
  Plan plan = *prepare_plan(src, dst, {4096});
  plan.first_groups.assign(4, 0);
  const bool first_is_for_2 = plan.sets.contains(plan.bundles[0].destinations, 2);
  append_route(first_is_for_2 ? 0 : 1, {{0, 1, -1, 0, 0, true}, {1, 3, 0, 0, 0, true}, {3, 2, 1}}, &plan);
  append_route(first_is_for_2 ? 1 : 0, {{0, 3}}, &plan);
  plan.most_in_flight = 2;
  plan.hash = hash_plan(plan);
  ASSERT_TRUE(check_routes(plan).ok()) << check_routes(plan).message();
  const auto shared = std::make_shared<const Plan>(std::move(plan));
  const std::string text = run_ranks(4, [&](Transport* transport) -> std::string {
    RankBuffers from(*src, transport->rank(), transport, false);
    RankBuffers into(*dst, transport->rank(), transport, false);
    auto binding = testing::bind({shared, transport, from.bound(), into.bound(), 0, kTimeoutUs});
    if (!binding.ok()) return binding.status().message();
    from.fill(1);
    into.poison();
    if (transport->rank() == 2) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    EXPECT_TRUE((*binding)->driver().start().ok());
    const Status status = (*binding)->driver().finish(Deadline(kTimeoutUs));
    const std::string wrong = status.ok() ? into.check(1) : status.message();
    return transport->allgather({}, Deadline(kTimeoutUs)).ok() ? wrong : "barrier";
  });
  EXPECT_EQ(text, "");
}

TEST(RelayTest, RelaysThatCouldBlockEachOtherAreRefused) {
  RunOptions options = relayed({}, 4096, kFanFromStaging);
  Plan plan = *options.plan;
  plan.hops[1].delay = 1;
  EXPECT_EQ(check_routes(plan).code(), RESHARD_ERR_INTERNAL);
  EXPECT_THAT(check_routes(plan).message(), HasSubstr("staging of rank 4 for 1 rounds"));
  plan = *options.plan;
  plan.hops = {{0, 4, -1, 0, 0, true}, {4, 1, 0, 0, 1}, {0, 4, -1, 0, 0, true}, {4, 2, 2, 0, 1}};
  EXPECT_THAT(check_routes(plan).message(), HasSubstr("comes to rank 4 twice"));
  plan = *options.plan;
  plan.options.open_groups = 1;
  EXPECT_TRUE(check_routes(plan).ok());
  plan.first_groups[3] = 2;
  EXPECT_THAT(check_routes(plan).message(), HasSubstr("begins with group 0 and its receiver 3 with group 2"));
}

/// With one group open at a time, rank 1 gets nothing of a later group as long as an earlier one is not there: its
/// source for group 0 sleeps.
TEST(RelayTest, ClosedGroupsWaitForOpenOnes) {
  if (testing::is_on_streams()) GTEST_SKIP() << "once a run has failed, the streams run on over the rest of it";
  auto src = std::make_shared<ModelLayout>(3);
  auto dst = std::make_shared<ModelLayout>(3);
  for (std::int32_t t = 0; t < 2; ++t) {
    for (ModelLayout* side : {src.get(), dst.get()}) {
      Placement placement;
      placement.mesh = *Mesh::create({{"r", 1}}, {side == src.get() ? (t == 0 ? 2 : 0) : 1});
      placement.dims.resize(1);
      placement.buffer = side->add_buffer("t" + std::to_string(t), DType::kF32);
      EXPECT_TRUE(side->place(*side->add_tensor({"t" + std::to_string(t), DType::kF32, {1000}, t}), placement).ok());
    }
  }
  for (const bool is_mappable : {true, false}) {
    for (const std::int64_t open_groups : {0, 1}) {
      PlanOptions plan_options;
      plan_options.open_groups = open_groups;
      const auto plan = std::make_shared<const Plan>(*create_plan(src, dst, plan_options));
      run_ranks(3, [&](Transport* transport) -> std::string {
        RankBuffers from(*src, transport->rank(), transport, is_mappable);
        RankBuffers into(*dst, transport->rank(), transport, is_mappable);
        auto binding = testing::bind({plan, transport, from.bound(), into.bound(), 0, kTimeoutUs});
        from.fill(1);
        into.poison();
        if (transport->rank() != 2) {
          EXPECT_TRUE((*binding)->driver().start().ok());
          const Status status = (*binding)->driver().finish(Deadline(kShortUs));
          if (transport->rank() == 1) {
            // Rank 0 has the same deadline, and waits for this one: its word may come first.
            EXPECT_THAT(status.code(), AnyOf(RESHARD_ERR_TIMEOUT, RESHARD_ERR_ABANDONED));
            EXPECT_EQ(into.check(1, 1).empty(), open_groups == 0);
          }
        }
        EXPECT_TRUE(transport->allgather({}, Deadline(kTimeoutUs)).ok());
        return "";
      });
    }
  }
}

}  // namespace
}  // namespace reshard
