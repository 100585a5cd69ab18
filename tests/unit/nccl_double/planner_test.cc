// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// How groups are cut: everything once and in order, no kernel too big, and what is sure to be one kernel is one.
#include "tests/doubles/nccl/planner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <tuple>
#include <utility>

namespace nccl_double {
namespace {

constexpr int kMostBatches = 254;

std::vector<Operation> random_operations(std::mt19937_64* random, int num_ranks, std::size_t count) {
  std::vector<Operation> operations(count);
  for (Operation& operation : operations) {
    operation.is_send = (*random)() % 2 == 0;
    operation.peer = static_cast<int>((*random)() % static_cast<std::uint64_t>(num_ranks));
    operation.size_bytes = (*random)() % 100'000;
  }
  return operations;
}

struct Shape {
  int rank;
  int num_ranks;
  PlanRules rules;
};

Shape random_shape(std::mt19937_64* random) {
  Shape shape{};
  shape.num_ranks = 2 + static_cast<int>((*random)() % 31);
  shape.rank = static_cast<int>((*random)() % static_cast<std::uint64_t>(shape.num_ranks));
  shape.rules.version = (*random)() % 2 == 0 ? 22809 : 22907;
  shape.rules.channels.total = 1 << (*random)() % 6;
  const int log_of_peer = static_cast<int>((*random)() % 6);
  shape.rules.channels.per_peer = std::min(shape.rules.channels.total, 1 << log_of_peer);
  shape.rules.channels.per_operation = std::min(shape.rules.channels.per_peer, 1 << (*random)() % 6);
  shape.rules.channels.part_bytes = (*random)() % 2 == 0 ? 0 : 1 + (*random)() % 10'000;
  return shape;
}

/// All parts of all kernels, in the order in which a channel runs them.
template <typename Visit>
void for_each_part(const std::vector<KernelPlan>& plans, Visit visit) {
  for (const KernelPlan& plan : plans) {
    for (const auto& batches : plan.batches) {
      for (const auto& batch : batches) {
        for (const Part& part : batch) visit(part);
      }
    }
  }
}

TEST(PlannerTest, EveryByteOfEveryOperationIsInOnePart) {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    std::mt19937_64 random(seed);
    const Shape shape = random_shape(&random);
    const auto operations = random_operations(&random, shape.num_ranks, random() % 200);
    std::vector<std::uint64_t> num_bytes(operations.size());
    std::vector<int> num_parts(operations.size());
    for_each_part(cut_group(operations, shape.rank, shape.num_ranks, shape.rules), [&](const Part& part) {
      num_bytes[static_cast<std::size_t>(part.operation)] += part.end - part.begin;
      ++num_parts[static_cast<std::size_t>(part.operation)];
    });
    for (std::size_t index = 0; index < operations.size(); ++index) {
      EXPECT_EQ(num_bytes[index], operations[index].size_bytes) << "seed " << seed;
      EXPECT_GE(num_parts[index], 1) << "seed " << seed;
      EXPECT_LE(num_parts[index], shape.rules.channels.per_operation) << "seed " << seed;
    }
  }
}

TEST(PlannerTest, OperationsWithOnePeerKeepTheirOrderOnEachChannel) {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    std::mt19937_64 random(seed);
    const Shape shape = random_shape(&random);
    const auto operations = random_operations(&random, shape.num_ranks, random() % 400);
    std::map<std::tuple<bool, int, int>, int> last;
    for_each_part(cut_group(operations, shape.rank, shape.num_ranks, shape.rules), [&](const Part& part) {
      const Operation& operation = operations[static_cast<std::size_t>(part.operation)];
      int& before = last.try_emplace({operation.is_send, operation.peer, part.channel}, -1).first->second;
      EXPECT_LT(before, part.operation) << "seed " << seed;
      before = part.operation;
    });
  }
}

TEST(PlannerTest, NoBatchHasTwoOperationsOfOneConnectionAndNoKernelTooManyBatches) {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    std::mt19937_64 random(seed);
    const Shape shape = random_shape(&random);
    const auto operations = random_operations(&random, shape.num_ranks, random() % 800);
    for (const KernelPlan& plan : cut_group(operations, shape.rank, shape.num_ranks, shape.rules)) {
      std::size_t num_batches = 0;
      for (const auto& batches : plan.batches) {
        num_batches += batches.size();
        for (const auto& batch : batches) {
          std::map<std::pair<bool, int>, int> used;
          for (const Part& part : batch) {
            const Operation& operation = operations[static_cast<std::size_t>(part.operation)];
            EXPECT_EQ(++used[std::make_pair(operation.is_send, operation.peer)], 1) << "seed " << seed;
          }
          EXPECT_LE(batch.size(), 16U) << "eight rounds of two directions";
        }
      }
      EXPECT_LE(num_batches, static_cast<std::size_t>(kMostBatches)) << "seed " << seed;
      EXPECT_EQ(num_batches, static_cast<std::size_t>(plan.num_batches));
    }
  }
}

TEST(PlannerTest, GroupThatFitsTheArgumentsForSureIsOneKernel) {
  int num_kernels_of_more = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    std::mt19937_64 random(seed);
    Shape shape = random_shape(&random);
    shape.rules.channels.part_bytes = 0;
    const ChannelCounts& channels = shape.rules.channels;
    const int most = (kMostBatches - channels.per_peer) / channels.per_operation;
    const auto operations = random_operations(&random, shape.num_ranks, static_cast<std::size_t>(most));
    EXPECT_EQ(cut_group(operations, shape.rank, shape.num_ranks, shape.rules).size(), 1U) << "seed " << seed;
    // The worst case: all with one peer, so that each has batches of its own.
    const std::vector<Operation> more(static_cast<std::size_t>(most) + 2, Operation{true, 0, nullptr, 1});
    num_kernels_of_more += cut_group(more, shape.rank, shape.num_ranks, shape.rules).size() > 1 ? 1 : 0;
  }
  EXPECT_GT(num_kernels_of_more, 200) << "the bound is no lower than it must be";
}

}  // namespace
}  // namespace nccl_double
