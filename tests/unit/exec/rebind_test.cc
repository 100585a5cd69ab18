// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Bindings that follow others as tables of experts change: what they bring, what they use again, and that a failure
// leaves the older one in order.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <random>

#include "tests/unit/exec/follower.h"
#include "tests/unit/exec/proof.h"
#include "tests/unit/plan/fleet.h"

namespace reshard {
namespace {

using testing::Choices;
using testing::Follower;
using ::testing::HasSubstr;
using testing::kTimeoutUs;
using testing::move_some;
using testing::random_story;
using testing::run_ranks;
using testing::Story;
using testing::two_tables;

/// Follows a story from plan to plan; buffers of some ranks move on the way. Where nothing moved and no table is new,
/// nothing is mapped again.
std::string follow(const Story& story, std::uint32_t seed, bool moves, Transport* transport) {
  std::mt19937 random(seed + static_cast<std::uint32_t>(transport->rank()));
  Follower rank(story, transport, random() % 3 != 0, random() % 3 != 0);
  if (const Status bound = rank.bind(); !bound.ok()) return bound.message() + "\n";
  std::string wrong = rank.run(1);
  if (transport->rank() == 0) {
    for (const auto& plan : story.plans) wrong += testing::prove(*plan);
  }
  for (std::size_t plan = 1; plan < story.plans.size(); ++plan) {
    UpdateOptions options;
    if (moves && random() % 2 == 0) options.src = move_some(&rank.src, &random);
    if (moves && random() % 2 == 0) options.dst = move_some(&rank.dst, &random);
    if (const Status updated = rank.update(plan, options); !updated.ok()) return updated.message() + "\n";
    const std::int64_t num_mapped = rank.binding->shared_memory().num_mapped();
    if (!moves && !story.is_new[plan] && num_mapped > 0) wrong += fmt::format("{} mapped anew\n", num_mapped);
    if (rank.binding->volume().staging_bytes > story.plans[plan]->options.staging_bytes) wrong += "too much staging\n";
    for (std::int64_t run = 0; run < 2; ++run) wrong += rank.run(static_cast<std::int64_t>(plan) * 10 + run);
  }
  if (!rank.meet()) wrong += "barrier\n";
  return wrong;
}

RC_GTEST_PROP(RebindTest, BringsWhatTheNewTablesSayWhateverMoved, ()) {
  const std::vector<std::uint32_t> numbers = testing::random_numbers();
  Choices choices(numbers);
  const std::optional<Story> story = random_story(&choices);
  if (!story.has_value()) return;
  const auto seed = static_cast<std::uint32_t>(choices.pick(1 << 20));
  const bool moves = choices.pick(3) > 0;
  RC_ASSERT(run_ranks(story->num_ranks(), [&](Transport* t) { return follow(*story, seed, moves, t); }) == "");
}

/// What one rank can do wrong at an update, and how the others hear of it.
struct Mistake {
  const char* name;
  reshard_status_t code;
  const char* text;
};

const Mistake kMistakes[] = {
    {"stale", RESHARD_ERR_PLAN_MISMATCH, "(is its table of experts stale?)"},
    {"argument", RESHARD_ERR_INVALID_ARGUMENT, "source buffers is NULL"},
    {"small", RESHARD_ERR_BUFFER_TOO_SMALL, "has 1 bytes"},
    {"unknown", RESHARD_ERR_INVALID_ARGUMENT, "destination buffer 77 is not one of rank 2"},
    {"copier", RESHARD_ERR_OUT_OF_MEMORY, "no memory for that, for once"},
};

Status try_mistake(const Mistake& mistake, Follower* rank, const std::shared_ptr<const Plan>& stale) {
  UpdateOptions options;
  const std::string name = rank->transport->rank() == 2 ? mistake.name : "";
  if (name == "argument") options.arguments = invalid_argument("source buffers is NULL");
  if (name == "small") options.dst = {rank->dst.bound().front()};
  if (name == "small") options.dst.front().size_bytes = 1;
  if (name == "unknown") options.dst = {{77, nullptr, 0}};
  rank->fails_to_copy = name == "copier";
  Status status;
  if (name == "stale") {
    options.plan = stale;
    options.timeout_us = kTimeoutUs;
    status = Binding::update(*rank->binding, options).status();
  } else {
    status = rank->update(1, options);
  }
  rank->fails_to_copy = false;
  return status;
}

TEST(RebindTest, AMistakeOfOneRankLeavesTheOlderBindingInOrderOnAll) {
  const Story story = two_tables();
  EXPECT_EQ(run_ranks(4,
                      [&](Transport* transport) -> std::string {
                        Follower rank(story, transport, true, transport->rank() != 3);
                        if (const Status bound = rank.bind(); !bound.ok()) return bound.message();
                        std::string wrong = rank.run(1);
                        std::int64_t salt = 2;
                        for (const Mistake& mistake : kMistakes) {
                          if (testing::is_on_streams() && mistake.code == RESHARD_ERR_OUT_OF_MEMORY) continue;
                          const Status status = try_mistake(mistake, &rank, story.plans[0]);
                          EXPECT_EQ(status.code(), mistake.code) << mistake.name << ": " << status.message();
                          EXPECT_THAT(status.message(), HasSubstr(mistake.text));
                          wrong += rank.run(salt++);
                        }
                        if (const Status updated = rank.update(1); !updated.ok()) return updated.message();
                        wrong += rank.run(salt);
                        return rank.meet() ? wrong : "barrier";
                      }),
            "");
}

/// Both plans are named, by the hash that each prints.
TEST(RebindTest, AStalePlanIsRefusedOnEveryRankByBothHashes) {
  const Story story = two_tables();
  run_ranks(4, [&](Transport* transport) -> std::string {
    Follower rank(story, transport, true, true);
    EXPECT_TRUE(rank.bind().ok());
    const std::size_t plan = transport->rank() == 1 ? 0 : 1;
    const Status status = rank.update(plan);
    EXPECT_EQ(status.code(), RESHARD_ERR_PLAN_MISMATCH);
    for (const auto& named : story.plans) {
      EXPECT_THAT(status.message(), HasSubstr(fmt::format("{:016x}", named->hash)));
    }
    EXPECT_EQ(rank.run(3), "");
    EXPECT_TRUE(rank.meet());
    return "";
  });
}

TEST(RebindTest, IsRefusedInARun) {
  const Story story = two_tables();
  run_ranks(4, [&](Transport* transport) -> std::string {
    Follower rank(story, transport, true, true);
    EXPECT_TRUE(rank.bind().ok());
    rank.src.fill(5);
    rank.dst.poison();
    EXPECT_TRUE(rank.meet());  // nobody reads a source before it is filled
    EXPECT_TRUE(rank.binding->driver().start().ok());
    const Status status = rank.update(1);
    EXPECT_EQ(status.code(), RESHARD_ERR_INVALID_STATE);
    EXPECT_THAT(status.message(), HasSubstr("call finish first"));
    EXPECT_TRUE(rank.binding->driver().finish(Deadline(kTimeoutUs)).ok());
    EXPECT_EQ(rank.dst.check(5), "");
    EXPECT_TRUE(rank.update(1).ok());
    EXPECT_EQ(rank.run(6), "");
    EXPECT_TRUE(rank.meet());
    return "";
  });
}

/// A buffer of another name under the same id is not taken for the one that was bound.
TEST(RebindTest, ABufferThatIsAnotherOneMustBeGiven) {
  Story story = two_tables();
  auto renamed = std::make_shared<ModelLayout>(*story.dst[1]);
  auto other = std::make_shared<ModelLayout>(4);
  // The same tensors in buffers whose order, and so whose ids, differ.
  for (std::int64_t t = 3; t >= 0; --t) other->add_buffer(at(renamed->buffers(), t).name, DType::kBF16);
  for (std::size_t t = 0; t < renamed->tensors().size(); ++t) {
    const auto id = static_cast<std::int64_t>(t);
    EXPECT_EQ(*other->add_tensor(renamed->tensors()[t]), id);
    for (Placement placement : renamed->placements(id)) {
      placement.buffer = 3 - placement.buffer;
      EXPECT_TRUE(other->place(id, placement).ok());
    }
  }
  story.plans.push_back(std::make_shared<const Plan>(*create_plan(story.src, other, {})));
  story.dst.push_back(other);
  run_ranks(4, [&](Transport* transport) -> std::string {
    Follower rank(story, transport, true, true);
    EXPECT_TRUE(rank.bind().ok());
    const Status status = rank.update(2);
    EXPECT_EQ(status.code(), RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(status.message(), HasSubstr("in the new plan's layout; give it with the update"));
    EXPECT_EQ(rank.run(3), "");
    EXPECT_TRUE(rank.meet());
    return "";
  });
}

/// What a follower uses again: all mappings of memory that stayed, and the communicator.
TEST(RebindTest, WhatStayedIsNotMappedAgainAndTheCommunicatorStays) {
  const Story story = two_tables();
  run_ranks(4, [&](Transport* transport) -> std::string {
    Follower rank(story, transport, true, true);
    EXPECT_TRUE(rank.bind().ok());
    EXPECT_EQ(rank.run(1), "");
    const std::shared_ptr<NcclComm> comm = rank.binding->driver().sound_comm();
    EXPECT_EQ(comm != nullptr, testing::is_on_streams());
    const bool is_server = transport->rank() >= 2;
    EXPECT_EQ(rank.binding->shared_memory().num_mapped() > 0, is_server);
    // One buffer of one trainer moves: each server that reads it maps that one.
    UpdateOptions options;
    if (transport->rank() == 0) options.src = {rank.src.move(rank.src.bound().front().id, true)};
    EXPECT_TRUE(rank.update(1, options).ok());
    EXPECT_EQ(rank.binding->shared_memory().num_mapped(), is_server ? 1 : 0);
    // Of the lists of copies that is kept whose layer has its old table, out of the trainer whose memory stayed: the
    // second trainer has what of that layer the second server wants.
    if (!testing::is_on_device() && !testing::is_on_streams()) {
      EXPECT_EQ(rank.binding->driver().bound()->num_kept_lists, transport->rank() == 3 ? 1 : 0);
    }
    EXPECT_EQ(rank.binding->driver().sound_comm(), comm);
    EXPECT_EQ(rank.run(2), "");
    EXPECT_TRUE(rank.meet());
    return "";
  });
}

TEST(RebindTest, StagingIsSharedWhereItIsLargeEnough) {
  HostCopier older;
  std::byte* const data = *older.allocate_staging(100);
  HostCopier same;
  same.share_staging(older);
  EXPECT_EQ(*same.allocate_staging(60), data);
  EXPECT_EQ(same.staging_bytes(), 100U);
  HostCopier larger;
  larger.share_staging(older);
  EXPECT_NE(*larger.allocate_staging(101), data);
  EXPECT_EQ(larger.staging_bytes(), 101U);
}

}  // namespace
}  // namespace reshard
