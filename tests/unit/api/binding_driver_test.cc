// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Which driver runs a binding, as far as it shows without a device: what is chosen there, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <functional>

#include "tests/unit/api/transfer.h"

namespace reshard::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// Two ranks that are threads, each with one buffer of host memory: from rank 0's to rank 1's.
class Bind {
 public:
  using Change = std::function<void(reshard_binding_desc_t*, std::int32_t rank)>;
  using Look = std::function<void(reshard_binding_t, reshard_status_t, const std::string& error)>;

  void all(const Change& change, const Look& look) const {
    run_on_local_comms(2, [&](reshard_comm_t comm, std::int32_t rank) {
      std::array<float, 4> values{};
      reshard_buffer_t buffer;
      reshard_buffer_init(&buffer);
      buffer.ptr = values.data();
      buffer.size_bytes = sizeof(values);
      reshard_binding_desc_t desc;
      reshard_binding_desc_init(&desc);
      desc.plan = plan_.handle;
      desc.comm = comm;
      (rank == 0 ? desc.num_src_buffers : desc.num_dst_buffers) = 1;
      (rank == 0 ? desc.src_buffers : desc.dst_buffers) = &buffer;
      change(&desc, rank);
      reshard_binding_t binding = nullptr;
      const reshard_status_t status = reshard_binding_create(&desc, &binding);
      EXPECT_EQ(binding != nullptr, status == RESHARD_OK);
      look(binding, status, status == RESHARD_OK ? "" : reshard_last_error());
      reshard_binding_destroy(binding);
    });
  }

  /// Every rank is refused, with these words.
  void refused(const Change& change, const ::testing::Matcher<const std::string&>& words) const {
    all(change, [&](reshard_binding_t, reshard_status_t status, const std::string& error) {
      EXPECT_EQ(status, RESHARD_ERR_INVALID_ARGUMENT) << error;
      EXPECT_THAT(error, words);
    });
  }

 private:
  Sides sides_{R"({"version": 1, "ranks": 2, "tensors": [{"name": "w", "group": 0, "shape": [4],
    "src": {"dtype": "F32", "mesh": {"axes": [["x", 1]], "ranks": [0]}, "placements": ["replicate"]},
    "dst": {"dtype": "F32", "mesh": {"axes": [["x", 1]], "ranks": [1]}, "placements": ["replicate"]}}]})"};
  PlanOf plan_{sides_, nullptr};
};

void expect_poll(reshard_binding_t binding, const std::string& reason_given) {
  reshard_driver_t driver = RESHARD_DRIVER_AUTO;
  const char* reason = nullptr;
  ASSERT_EQ(reshard_binding_get_driver(binding, &driver, &reason), RESHARD_OK);
  EXPECT_EQ(driver, RESHARD_DRIVER_POLL);
  EXPECT_THAT(reason, HasSubstr(reason_given));
  EXPECT_EQ(reshard_binding_get_driver(binding, nullptr, nullptr), RESHARD_OK);
}

TEST(BindingDriverTest, MemoryOfTheHostIsPolled) {
  Bind().all(
      [](reshard_binding_desc_t* desc, std::int32_t) {
        EXPECT_EQ(desc->driver, RESHARD_DRIVER_AUTO);
        EXPECT_EQ(desc->traffic_class, -1);
      },
      [](reshard_binding_t binding, reshard_status_t status, const std::string& error) {
        ASSERT_EQ(status, RESHARD_OK) << error;
        expect_poll(binding, "no NCCL: on rank 0: the buffers are memory of the host");
      });
}

TEST(BindingDriverTest, WhoWantsToPollDecidesForThoseWhoDoNotMind) {
  Bind().all(
      [](reshard_binding_desc_t* desc, std::int32_t rank) {
        if (rank == 1) desc->driver = RESHARD_DRIVER_POLL;
      },
      [](reshard_binding_t binding, reshard_status_t status, const std::string& error) {
        ASSERT_EQ(status, RESHARD_OK) << error;
        expect_poll(binding, "rank 1 asked for it");
      });
}

TEST(BindingDriverTest, TheFirstVersionOfTheDescriptionIsTaken) {
  Bind().all(
      [](reshard_binding_desc_t* desc, std::int32_t) {
        desc->version = 1;
        desc->struct_size = offsetof(reshard_binding_desc_t, driver);
        // A caller of that version has anything there.
        std::memset(&desc->driver, 0xff, sizeof(*desc) - desc->struct_size);
      },
      [](reshard_binding_t binding, reshard_status_t status, const std::string& error) {
        ASSERT_EQ(status, RESHARD_OK) << error;
        expect_poll(binding, "no NCCL");
      });
}

TEST(BindingDriverTest, NcclMovesNoMemoryOfTheHost) {
  Bind().refused([](reshard_binding_desc_t* desc, std::int32_t) { desc->driver = RESHARD_DRIVER_NCCL; },
                 HasSubstr("the buffers are memory of the host, and NCCL moves that of devices"));
}

TEST(BindingDriverTest, OneRankThatNeedsNcclNeedsItOnAll) {
  int somebodys = 0;
  const std::vector<std::function<void(reshard_binding_desc_t*)>> needs = {
      [](reshard_binding_desc_t* desc) { desc->driver = RESHARD_DRIVER_NCCL; },
      [](reshard_binding_desc_t* desc) { desc->capturable = 1; },
      [&](reshard_binding_desc_t* desc) { desc->nccl_comm = &somebodys; }};
  for (const auto& need : needs) {
    Bind().refused(
        [&](reshard_binding_desc_t* desc, std::int32_t rank) {
          if (rank == 0) need(desc);
        },
        HasSubstr("memory of the host"));
    Bind().refused([&](reshard_binding_desc_t* desc,
                       std::int32_t rank) { rank == 0 ? need(desc) : void(desc->driver = RESHARD_DRIVER_POLL); },
                   HasSubstr("rank 0 wants the driver over NCCL, and rank 1 the one that polls"));
  }
}

TEST(BindingDriverTest, WhatAPollingDriverHasNoUseForIsRefused) {
  int somebodys = 0;
  Bind().refused(
      [&](reshard_binding_desc_t* desc, std::int32_t) {
        desc->driver = RESHARD_DRIVER_POLL;
        desc->nccl_comm = &somebodys;
      },
      HasSubstr("no use for nccl_comm"));
  Bind().refused(
      [&](reshard_binding_desc_t* desc, std::int32_t) {
        desc->driver = RESHARD_DRIVER_POLL;
        desc->capturable = 1;
      },
      HasSubstr("no use for capturable"));
}

TEST(BindingDriverTest, ValuesThatThereAreNotAreRefusedOnEveryRank) {
  const std::vector<std::pair<std::function<void(reshard_binding_desc_t*)>, const char*>> wrong = {
      {[](reshard_binding_desc_t* desc) { desc->driver = static_cast<reshard_driver_t>(3); }, "driver is 3"},
      {[](reshard_binding_desc_t* desc) { desc->max_ctas = 65; }, "max_ctas is 65"},
      {[](reshard_binding_desc_t* desc) { desc->traffic_class = 256; }, "traffic_class is 256"},
      {[](reshard_binding_desc_t* desc) { desc->may_revoke_nccl_comm = 1; }, "no given communicator"}};
  for (const auto& [spoil, words] : wrong) {
    Bind().refused(
        [&, spoil = spoil](reshard_binding_desc_t* desc, std::int32_t rank) {
          if (rank == 1) spoil(desc);
        },
        HasSubstr(words));
  }
}

TEST(BindingDriverTest, ADriverIsThatOfABinding) {
  EXPECT_EQ(reshard_binding_get_driver(nullptr, nullptr, nullptr), RESHARD_ERR_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace reshard::testing
