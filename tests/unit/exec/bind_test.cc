// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Bindings that fail on one rank, leave early, or share a comm.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "src/exec/tags.h"
#include "tests/unit/exec/run.h"

namespace reshard {
namespace {

using ::testing::HasSubstr;
using testing::kTimeoutUs;
using testing::RankBuffers;
using testing::run_ranks;

/// Ranks 0 and 1 hold half of a matrix's rows each, and want half of its columns.
testing::Scenario rows_to_columns(std::int64_t size) {
  auto src = std::make_shared<ModelLayout>(2);
  auto dst = std::make_shared<ModelLayout>(2);
  for (ModelLayout* side : {src.get(), dst.get()}) {
    Split split;
    split.num_parts = 2;
    Placement placement;
    placement.mesh = *Mesh::create({{"r", 2}}, {0, 1});
    placement.dims.resize(2);
    const std::size_t cut = side == src.get() ? 0 : 1;
    placement.dims[cut] = {std::make_shared<const DimMap>(*make_dim_map(size, {split})), {0}};
    placement.buffer = side->add_buffer("w", DType::kF32);
    EXPECT_TRUE(side->place(*side->add_tensor({"w", DType::kF32, {size, size}, 0}), placement).ok());
  }
  return {src, dst};
}

/// A rank's memory and a way to bind it.
struct Half {
  Half(const testing::Scenario& scenario, Transport* given, bool is_mappable)
      : src(*scenario.src, given->rank(), given, is_mappable),
        dst(*scenario.dst, given->rank(), given, is_mappable),
        plan(std::make_shared<const Plan>(*create_plan(scenario.src, scenario.dst, {}))),
        transport(given) {}

  BindOptions options() { return {plan, transport, src.bound(), dst.bound(), &numbers, kTimeoutUs}; }
  std::string run(Binding* binding, std::int64_t salt) {
    src.fill(salt);
    dst.poison();
    Status status = binding->driver().start();
    if (status.ok()) status = binding->driver().finish(Deadline(kTimeoutUs));
    return status.ok() ? dst.check(salt) : status.message();
  }

  RankBuffers src;
  RankBuffers dst;
  std::shared_ptr<const Plan> plan;
  Transport* transport;
  BindingNumbers numbers;
};

TEST(BindTest, WhatOneRankDoesWrongOnceAllSurvive) {
  const testing::Scenario scenario = rows_to_columns(8);
  EXPECT_EQ(run_ranks(2,
                      [&](Transport* transport) -> std::string {
                        Half half(scenario, transport, true);
                        for (int attempt = 0; attempt < 6; ++attempt) {
                          BindOptions options = half.options();
                          const bool errs = attempt % 2 == 0 && transport->rank() == 1;
                          if (errs) options.arguments = invalid_argument("source buffers is NULL");
                          if (errs) options.plan = nullptr;
                          auto binding = testing::bind(options);
                          if (binding.ok() == (attempt % 2 == 0)) return "a bind that is neither here nor there";
                          if (binding.ok()) {
                            if (const std::string wrong = half.run(binding->get(), attempt); !wrong.empty())
                              return wrong;
                            continue;
                          }
                          EXPECT_EQ(binding.status().code(), RESHARD_ERR_INVALID_ARGUMENT);
                          EXPECT_THAT(binding.status().message(), HasSubstr("source buffers is NULL"));
                          EXPECT_TRUE(half.numbers.alive.empty());
                        }
                        return "";
                      }),
            "");
}

/// Numbers that wrapped round in a tag, beside a binding that is still alive, and ranks that count differently.
TEST(BindTest, NumbersOfBindingsNeitherRunOutNorDriftApart) {
  const testing::Scenario scenario = rows_to_columns(8);
  EXPECT_EQ(run_ranks(2,
                      [&](Transport* transport) -> std::string {
                        Half half(scenario, transport, transport->rank() == 0);
                        auto first = testing::bind(half.options());
                        if (!first.ok()) return first.status().message();
                        // The number of the first one again, another, and that of the first one after the next turn.
                        const std::int64_t turn = std::int64_t{1} << kBindingBits;
                        for (const std::int64_t next : {turn + 1, turn + 20, 2 * turn + 1}) {
                          half.numbers.next = (std::int64_t{1} << 40) + next - 5 * transport->rank();
                          auto second = testing::bind(half.options());
                          if (!second.ok()) return second.status().message();
                          EXPECT_EQ(half.numbers.alive.size(), 2U);
                          for (std::int64_t salt = 0; salt < 3; ++salt) {
                            if (const auto wrong = half.run(second->get(), salt); !wrong.empty()) return wrong;
                            if (const auto wrong = half.run(first->get(), salt + 3); !wrong.empty()) return wrong;
                          }
                        }
                        return transport->allgather({}, Deadline(kTimeoutUs)).ok() ? "" : "barrier";
                      }),
            "");
}

class LeaveTest : public ::testing::TestWithParam<bool> {};

TEST_P(LeaveTest, APeerThatDestroysItsBindingInTheMiddleIsReportedAtOnce) {
  const testing::Scenario scenario = rows_to_columns(512);
  EXPECT_EQ(run_ranks(2,
                      [&](Transport* transport) -> std::string {
                        Half half(scenario, transport, GetParam());
                        auto binding = testing::bind(half.options());
                        if (!binding.ok()) return binding.status().message();
                        if (const std::string wrong = half.run(binding->get(), 1); !wrong.empty()) return wrong;
                        if (transport->rank() == 1) {
                          std::this_thread::sleep_for(std::chrono::milliseconds(20));
                        } else {
                          const auto begin = std::chrono::steady_clock::now();
                          EXPECT_TRUE((*binding)->driver().start().ok());
                          const Status status = (*binding)->driver().finish(Deadline(kTimeoutUs));
                          EXPECT_EQ(status.code(), RESHARD_ERR_ABANDONED);
                          EXPECT_THAT(status.message(), HasSubstr("rank 1 destroyed its binding"));
                          EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
                        }
                        binding->reset();
                        auto again = testing::bind(half.options());
                        if (!again.ok()) return again.status().message();
                        EXPECT_TRUE(half.numbers.deserted.size() <= 1);
                        return half.run(again->get(), 2);
                      }),
            "");
}

INSTANTIATE_TEST_SUITE_P(Paths, LeaveTest, ::testing::Bool(),
                         [](const ::testing::TestParamInfo<bool>& path) { return path.param ? "Mapped" : "Windows"; });

/// Two bindings of one transport, each on a thread of its own.
TEST(ThreadsTest, BindingsOfOneCommTakeTurns) {
  const testing::Scenario scenario = rows_to_columns(128);
  EXPECT_EQ(run_ranks(2,
                      [&](Transport* transport) -> std::string {
                        Half a(scenario, transport, true);
                        Half b(scenario, transport, false);
                        BindOptions second = b.options();
                        second.numbers = &a.numbers;
                        auto one = testing::bind(a.options());
                        auto two = testing::bind(second);
                        if (!one.ok() || !two.ok()) return "bind";
                        std::string texts[2];
                        std::thread other([&] {
                          for (std::int64_t run = 0; run < 40 && texts[1].empty(); ++run) {
                            texts[1] = b.run(two->get(), run);
                          }
                        });
                        for (std::int64_t run = 0; run < 40 && texts[0].empty(); ++run) {
                          texts[0] = a.run(one->get(), run);
                        }
                        other.join();
                        return texts[0] + texts[1];
                      }),
            "");
}

}  // namespace
}  // namespace reshard
