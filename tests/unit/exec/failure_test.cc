// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/exec/run.h"

namespace reshard {
namespace {

using ::testing::HasSubstr;
using testing::kShortUs;
using testing::kTimeoutUs;
using testing::RankBuffers;
using testing::run_ranks;

/// Tensor t in group t goes from rank t to rank `num_sources`, whole.
testing::Scenario one_tensor_per_source(std::int32_t num_sources, std::int64_t num_elements = 100) {
  auto src = std::make_shared<ModelLayout>(num_sources + 1);
  auto dst = std::make_shared<ModelLayout>(num_sources + 1);
  for (std::int32_t t = 0; t < num_sources; ++t) {
    const Tensor tensor{fmt::format("t{}", t), DType::kF32, {num_elements}, t};
    for (ModelLayout* side : {src.get(), dst.get()}) {
      Placement placement;
      placement.mesh = *Mesh::create({{"r", 1}}, {side == src.get() ? t : num_sources});
      placement.dims.resize(1);
      placement.buffer = side->add_buffer(tensor.name, tensor.dtype);
      EXPECT_TRUE(side->place(*side->add_tensor(tensor), placement).ok());
    }
  }
  return {src, dst};
}

std::shared_ptr<const Plan> plan_of(const testing::Scenario& scenario, const PlanOptions& options = {}) {
  return std::make_shared<const Plan>(*create_plan(scenario.src, scenario.dst, options));
}

/// Binds a rank with good buffers after `change` had its way with the options.
Status bind_with(const testing::Scenario& scenario, Transport* transport,
                 const std::function<void(BindOptions*)>& change) {
  RankBuffers src(*scenario.src, transport->rank(), transport, true);
  RankBuffers dst(*scenario.dst, transport->rank(), transport, true);
  BindOptions options{plan_of(scenario), transport, src.bound(), dst.bound(), 0, kTimeoutUs};
  change(&options);
  auto binding = testing::bind(options);
  return binding.ok() ? Status() : binding.take_status();
}

/// Every rank must fail with `code`; rank 0 made the mistake and its message has the words.
void expect_all_fail(reshard_status_t code, const std::vector<std::string>& words,
                     const std::function<void(BindOptions*)>& mistake) {
  const testing::Scenario scenario = one_tensor_per_source(2);
  run_ranks(3, [&](Transport* transport) -> std::string {
    const bool errs = transport->rank() == 0;
    const Status status = bind_with(
        scenario, transport, errs ? mistake : [](BindOptions*) {});
    EXPECT_EQ(status.code(), code) << status.message();
    for (const std::string& word : words) EXPECT_THAT(status.message(), HasSubstr(word));
    return "";
  });
}

TEST(BindTest, ABufferTooSmallFailsOnEveryRank) {
  expect_all_fail(RESHARD_ERR_BUFFER_TOO_SMALL, {"\"t0\"", "399", "400"},
                  [](BindOptions* options) { options->src[0].size_bytes = 399; });
}

TEST(BindTest, AMissingBufferFailsOnEveryRank) {
  expect_all_fail(RESHARD_ERR_INVALID_ARGUMENT, {"\"t0\"", "missing"},
                  [](BindOptions* options) { options->src.clear(); });
}

TEST(BindTest, ANullBufferFailsOnEveryRank) {
  expect_all_fail(RESHARD_ERR_INVALID_ARGUMENT, {"\"t0\"", "NULL"},
                  [](BindOptions* options) { options->src[0].data = nullptr; });
}

TEST(BindTest, AForeignBufferFailsOnEveryRank) {
  expect_all_fail(RESHARD_ERR_INVALID_ARGUMENT, {"buffer 1", "not one of rank 0"},
                  [](BindOptions* options) { options->src[0].id = 1; });
}

TEST(BindTest, DifferentPlansFailOnEveryRank) {
  expect_all_fail(RESHARD_ERR_PLAN_MISMATCH, {"rank", "plan"}, [](BindOptions* options) {
    options->plan = plan_of({options->plan->src, options->plan->dst}, {1 << 20});
  });
}

TEST(BindTest, APlanForAnotherWorldFailsOnEveryRank) {
  const testing::Scenario other = one_tensor_per_source(3);
  expect_all_fail(RESHARD_ERR_LAYOUT_MISMATCH, {"4 ranks", "3"},
                  [&](BindOptions* options) { options->plan = plan_of(other); });
}

TEST(BindTest, SourceAndDestinationMustNotShareMemory) {
  const testing::Scenario scenario = one_tensor_per_source(1);
  auto both = std::make_shared<ModelLayout>(*scenario.src);  // rank 0 to itself
  run_ranks(2, [&](Transport* transport) -> std::string {
    RankBuffers buffers(*both, transport->rank(), transport, true);
    const auto binding =
        testing::bind({plan_of({both, both}), transport, buffers.bound(), buffers.bound(), 0, kTimeoutUs});
    EXPECT_FALSE(binding.ok());
    EXPECT_EQ(binding.status().code(), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(binding.status().message(), HasSubstr("overlaps"));
    return "";
  });
}

class LateTest : public ::testing::TestWithParam<bool> {};

/// Rank 1 sleeps through the first run. Rank 2 has group 0 complete, group 1 not; all time out, and the next run is
/// right.
TEST_P(LateTest, GroupsCompleteSinglyAndTheNextRunIsRight) {
  const bool is_mappable = GetParam();
  const testing::Scenario scenario = one_tensor_per_source(2, 100'000);
  const auto plan = plan_of(scenario);
  const std::string text = run_ranks(3, [&](Transport* transport) -> std::string {
    RankBuffers src(*scenario.src, transport->rank(), transport, is_mappable);
    RankBuffers dst(*scenario.dst, transport->rank(), transport, is_mappable);
    auto binding = testing::bind({plan, transport, src.bound(), dst.bound(), 0, kTimeoutUs});
    if (!binding.ok()) return binding.status().message();
    Driver& driver = (*binding)->driver();
    src.fill(1);
    dst.poison();
    if (transport->rank() == 2) {
      EXPECT_TRUE(driver.start().ok());
      EXPECT_TRUE(driver.wait_group(0, Deadline(kTimeoutUs)).ok());
      const Status late = driver.wait_group(1, Deadline(kShortUs));
      EXPECT_EQ(late.code(), RESHARD_ERR_TIMEOUT);
      EXPECT_THAT(late.message(), HasSubstr("1 groups complete"));
      EXPECT_THAT(late.message(), HasSubstr("ranks 1"));
      EXPECT_EQ(driver.num_groups_complete(), 1);
      EXPECT_EQ(driver.finish(Deadline(kTimeoutUs)).code(), RESHARD_ERR_TIMEOUT);  // the failure sticks
    } else if (transport->rank() == 0) {
      EXPECT_TRUE(driver.start().ok());
      EXPECT_TRUE(driver.finish(Deadline(kTimeoutUs)).ok());
    }
    if (!transport->allgather({}, Deadline(kTimeoutUs)).ok()) return "barrier";
    if (transport->rank() == 1) {  // starts the run that the others gave up, and is told
      EXPECT_TRUE(driver.start().ok());
      const Status status = driver.finish(Deadline(kTimeoutUs));
      EXPECT_EQ(status.code(), RESHARD_ERR_ABANDONED);
      EXPECT_THAT(status.message(), HasSubstr("rank 2 gave the run up"));
    }
    if (!transport->allgather({}, Deadline(kTimeoutUs)).ok()) return "barrier";
    if (testing::is_on_streams()) {
      const std::string wrong = testing::try_again_in_vain(&driver, transport->rank() == 0);
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

INSTANTIATE_TEST_SUITE_P(Paths, LateTest, ::testing::Bool(),
                         [](const ::testing::TestParamInfo<bool>& path) { return path.param ? "Mapped" : "Windows"; });

TEST(DriverTest, CallsOutOfOrderAreRefused) {
  const testing::Scenario scenario = one_tensor_per_source(1);
  run_ranks(2, [&](Transport* transport) -> std::string {
    RankBuffers src(*scenario.src, transport->rank(), transport, true);
    RankBuffers dst(*scenario.dst, transport->rank(), transport, true);
    auto binding = testing::bind({plan_of(scenario), transport, src.bound(), dst.bound(), 0, kTimeoutUs});
    EXPECT_TRUE(binding.ok());
    Driver& driver = (*binding)->driver();
    EXPECT_EQ(driver.finish(Deadline(kShortUs)).code(), RESHARD_ERR_INVALID_STATE);
    EXPECT_TRUE(driver.start().ok());
    EXPECT_EQ(driver.start().code(), RESHARD_ERR_INVALID_STATE);
    EXPECT_TRUE(driver.finish(Deadline(kTimeoutUs)).ok());
    EXPECT_TRUE(transport->allgather({}, Deadline(kTimeoutUs)).ok());
    return "";
  });
}

}  // namespace
}  // namespace reshard
