// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// One wrong call breaks nothing: every rank gets an error at once, and what comes next works.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "reshard/reshard.h"
#include "tests/unit/api/transfer.h"

namespace reshard::testing {
namespace {

using ::testing::HasSubstr;

enum class Kind { kLocal, kUcx };

constexpr std::size_t kTiB = std::size_t{1} << 40;

/// What is said at once, on a machine whose cores are shared: half a second, and ten times that.
constexpr auto kAtOnce = std::chrono::milliseconds(5000);

class MisuseTest : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    reshard_unique_id_t id;
    if (GetParam() == Kind::kUcx && reshard_unique_id_create(nullptr, &id) != RESHARD_OK) {
      GTEST_SKIP() << reshard_last_error();
    }
    if (GetParam() == Kind::kUcx) reshard_unique_id_destroy(&id);
  }

  /// body(comm, rank) on two connected ranks, each on a thread.
  static void on_two_ranks(const std::function<void(reshard_comm_t, std::int32_t)>& body) {
    if (GetParam() == Kind::kLocal) return run_on_local_comms(2, body);
    reshard_unique_id_t id;
    ASSERT_EQ(reshard_unique_id_create(nullptr, &id), RESHARD_OK) << reshard_last_error();
    std::vector<std::thread> threads;
    for (std::int32_t rank = 0; rank < 2; ++rank) {
      threads.emplace_back([&, rank] {
        reshard_comm_t comm = nullptr;
        ASSERT_EQ(reshard_comm_create_from_id(&id, rank, 2, nullptr, &comm), RESHARD_OK) << reshard_last_error();
        body(comm, rank);
        EXPECT_EQ(reshard_comm_allgather(comm, nullptr, nullptr, 0, kTimeoutUs), RESHARD_OK);
        reshard_comm_destroy(comm);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
};

/// What one rank gives to a bind: all of one tensor from rank 0 to rank 1.
struct Bind {
  static constexpr std::size_t kCount = 1000;
  Bind(const PlanOf& plan, reshard_comm_t comm, std::int32_t rank) : memory(kCount, rank == 0 ? 1.0F : 0.0F) {
    reshard_buffer_init(&buffer);
    buffer.ptr = memory.data();
    buffer.size_bytes = kCount * sizeof(float);
    reshard_binding_desc_init(&desc);
    desc.plan = plan.handle;
    desc.comm = comm;
    (rank == 0 ? desc.src_buffers : desc.dst_buffers) = &buffer;
    (rank == 0 ? desc.num_src_buffers : desc.num_dst_buffers) = 1;
  }
  std::vector<float> memory;
  reshard_buffer_t buffer;
  reshard_binding_desc_t desc;
};

const char kOneWay[] = R"({"version": 1, "ranks": 2, "tensors": [{"name": "w", "group": 0, "shape": [1000],
  "src": {"dtype": "F32", "mesh": {"axes": [["x", 1]], "ranks": [0]}, "placements": ["replicate"]},
  "dst": {"dtype": "F32", "mesh": {"axes": [["x", 1]], "ranks": [1]}, "placements": ["replicate"]}}]})";

void expect_a_good_run(reshard_binding_t binding, const Bind& bind, std::int32_t rank) {
  EXPECT_EQ(reshard_binding_start(binding, nullptr), RESHARD_OK) << reshard_last_error();
  EXPECT_EQ(reshard_binding_finish(binding, kTimeoutUs), RESHARD_OK) << "rank " << rank << reshard_last_error();
  EXPECT_EQ(bind.memory.back(), 1.0F);
}

TEST_P(MisuseTest, AWrongBindOnOneRankFailsOnBothAtOnceAndTheNextWorks) {
  const Sides sides(kOneWay);
  const PlanOf plan(sides, nullptr);
  on_two_ranks([&](reshard_comm_t comm, std::int32_t rank) {
    const std::vector<std::function<void(reshard_binding_desc_t*)>> mistakes = {
        [](reshard_binding_desc_t* desc) { desc->plan = nullptr; },
        [](reshard_binding_desc_t* desc) { desc->num_src_buffers = -1; },
        [](reshard_binding_desc_t* desc) { desc->num_dst_buffers = INT64_MIN; },
        [](reshard_binding_desc_t* desc) { desc->src_buffers = nullptr, desc->num_src_buffers = 1; },
        [](reshard_binding_desc_t* desc) { desc->timeout_us = -1; },
    };
    for (std::size_t i = 0; i < mistakes.size(); ++i) {
      Bind bind(plan, comm, rank);
      if (rank == static_cast<std::int32_t>(i % 2)) mistakes[i](&bind.desc);
      const auto begin = std::chrono::steady_clock::now();
      reshard_binding_t binding = nullptr;
      EXPECT_EQ(reshard_binding_create(&bind.desc, &binding), RESHARD_ERR_INVALID_ARGUMENT) << "mistake " << i;
      EXPECT_EQ(binding, nullptr);
      EXPECT_LT(std::chrono::steady_clock::now() - begin, kAtOnce);
      Bind good(plan, comm, rank);
      ASSERT_EQ(reshard_binding_create(&good.desc, &binding), RESHARD_OK) << reshard_last_error();
      expect_a_good_run(binding, good, rank);
      reshard_binding_destroy(binding);
    }
  });
}

TEST_P(MisuseTest, AnAllgatherOfASizeThatNothingHasFailsOnBoth) {
  on_two_ranks([](reshard_comm_t comm, std::int32_t rank) {
    char bytes[2] = {1, 2};
    for (const std::int32_t greedy : {0, 1, 2}) {
      const bool is_greedy = rank == greedy || greedy == 2;  // one of them, then both
      const auto begin = std::chrono::steady_clock::now();
      EXPECT_EQ(reshard_comm_allgather(comm, bytes, bytes, is_greedy ? SIZE_MAX : 1, kTimeoutUs),
                RESHARD_ERR_INVALID_ARGUMENT);
      EXPECT_LT(std::chrono::steady_clock::now() - begin, kAtOnce);
    }
    const char mine = rank == 0 ? 'a' : 'b';
    EXPECT_EQ(reshard_comm_allgather(comm, &mine, bytes, 1, kTimeoutUs), RESHARD_OK) << reshard_last_error();
    EXPECT_TRUE(bytes[0] == 'a' && bytes[1] == 'b');
  });
}

TEST_P(MisuseTest, ACommMayBeDestroyedBeforeItsBinding) {
  const Sides sides(kOneWay);
  const PlanOf plan(sides, nullptr);
  on_two_ranks([&](reshard_comm_t comm, std::int32_t rank) {
    // A comm of its own, since on_two_ranks destroys that one; its id goes over the first.
    reshard_unique_id_t ids[2] = {};
    reshard_comm_t second = nullptr;
    if (GetParam() == Kind::kUcx) {
      EXPECT_EQ(rank == 0 ? reshard_unique_id_create(nullptr, &ids[0]) : RESHARD_OK, RESHARD_OK);
      const reshard_unique_id_t mine = ids[0];
      ASSERT_EQ(reshard_comm_allgather(comm, &mine, ids, sizeof(mine), kTimeoutUs), RESHARD_OK);
      ASSERT_EQ(reshard_comm_create_from_id(ids, rank, 2, nullptr, &second), RESHARD_OK) << reshard_last_error();
    } else {
      static reshard_comm_t comms[2];
      EXPECT_EQ(rank == 0 ? reshard_comm_create_local(2, nullptr, comms) : RESHARD_OK, RESHARD_OK);
      ASSERT_EQ(reshard_comm_allgather(comm, nullptr, nullptr, 0, kTimeoutUs), RESHARD_OK);
      second = comms[rank];
    }
    const Bind bind(plan, second, rank);
    reshard_binding_t binding = nullptr;
    ASSERT_EQ(reshard_binding_create(&bind.desc, &binding), RESHARD_OK) << reshard_last_error();
    reshard_comm_destroy(second);
    for (int run = 0; run < 2; ++run) expect_a_good_run(binding, bind, rank);
    reshard_binding_destroy(binding);
  });
}

/// In a process of its own with a limit of address space, so that a library that tries has nothing to fill.
TEST_P(MisuseTest, MemoryThatNobodyHasIsRefusedAtOnce) {
  const pid_t pid = fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) {
    on_two_ranks([](reshard_comm_t comm, std::int32_t) {
      EXPECT_EQ(reshard_comm_allgather(comm, nullptr, nullptr, 0, kTimeoutUs), RESHARD_OK);
#ifndef __SANITIZE_ADDRESS__  // which itself takes terabytes of address space
      std::size_t pages = 0;
      std::ifstream("/proc/self/statm") >> pages;
      const rlimit limit{pages * static_cast<std::size_t>(getpagesize()) + (std::size_t{1} << 30), RLIM_INFINITY};
      setrlimit(RLIMIT_AS, &limit);
#endif
      for (const std::size_t size_bytes : {kTiB, std::size_t{1} << 62, SIZE_MAX}) {
        int touched = 0;
        void* ptr = &touched;
        const auto begin = std::chrono::steady_clock::now();
        EXPECT_EQ(reshard_alloc(comm, size_bytes, &ptr), RESHARD_ERR_OUT_OF_MEMORY);
        EXPECT_LT(std::chrono::steady_clock::now() - begin, kAtOnce);
        EXPECT_THAT(reshard_last_error(), HasSubstr(std::to_string(size_bytes)));
        EXPECT_EQ(ptr, nullptr);
      }
      void* ptr = nullptr;
      EXPECT_EQ(reshard_alloc(comm, 1000, &ptr), RESHARD_OK) << reshard_last_error();
      EXPECT_EQ(reshard_free(comm, ptr), RESHARD_OK);
    });
    std::_Exit(HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "wait status " << status;
}

TEST(UniqueIdTest, ADestroyedIdLetsNobodyJoin) {
  reshard_unique_id_t id;
  const reshard_status_t made = reshard_unique_id_create(nullptr, &id);
  if (made == RESHARD_ERR_NOT_SUPPORTED) GTEST_SKIP() << reshard_last_error();
  ASSERT_EQ(made, RESHARD_OK) << reshard_last_error();
  EXPECT_EQ(reshard_unique_id_destroy(&id), RESHARD_OK) << reshard_last_error();
  EXPECT_EQ(reshard_unique_id_destroy(&id), RESHARD_OK) << reshard_last_error();  // again: nothing is left to do
  reshard_comm_options_t options;
  reshard_comm_options_init(&options);
  options.timeout_us = 200'000;
  reshard_comm_t comm = nullptr;
  const reshard_status_t joined = reshard_comm_create_from_id(&id, 1, 2, &options, &comm);
  if (joined == RESHARD_ERR_NOT_SUPPORTED) GTEST_SKIP() << reshard_last_error();
  EXPECT_EQ(joined, RESHARD_ERR_TIMEOUT);
  EXPECT_EQ(reshard_comm_create_from_id(&id, 0, 2, &options, &comm), RESHARD_ERR_INVALID_STATE);
  EXPECT_EQ(comm, nullptr);
  id.data[3] ^= 1;
  EXPECT_EQ(reshard_unique_id_destroy(&id), RESHARD_ERR_INVALID_ARGUMENT);
}

TEST(CommOptionsTest, ALongRendezvousIsNoticed) {
  reshard_unique_id_t id;
  ASSERT_EQ(reshard_unique_id_create(nullptr, &id), RESHARD_OK);
  reshard_comm_options_t options;
  reshard_comm_options_init(&options);
  std::vector<std::string> texts;
  options.timeout_us = 2'600'000;
  options.user = &texts;
  options.notice = [](const char* text, void* user) { static_cast<std::vector<std::string>*>(user)->push_back(text); };
  reshard_comm_t comm = nullptr;
  const reshard_status_t joined = reshard_comm_create_from_id(&id, 0, 3, &options, &comm);
  if (joined == RESHARD_ERR_NOT_SUPPORTED) GTEST_SKIP() << reshard_last_error();
  EXPECT_EQ(joined, RESHARD_ERR_TIMEOUT);
  ASSERT_EQ(texts.size(), 1U);  // after two seconds, and after four, which do not come
  EXPECT_THAT(texts[0], HasSubstr("waits for ranks 1, 2"));
}

INSTANTIATE_TEST_SUITE_P(Comms, MisuseTest, ::testing::Values(Kind::kLocal, Kind::kUcx),
                         [](const auto& kind) { return kind.param == Kind::kLocal ? "Local" : "Ucx"; });

}  // namespace
}  // namespace reshard::testing
