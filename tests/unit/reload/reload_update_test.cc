// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Reloads that follow others as tables of experts change: what they bring, what they use again, and that a failure
// leaves the older one in order.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <random>

#include "src/reload/reload.h"
#include "tests/unit/exec/follower.h"

namespace reshard {
namespace {

using testing::Choices;
using ::testing::HasSubstr;
using testing::RankBuffers;
using testing::run_ranks;
using testing::Story;

std::vector<std::byte> bytes_of(const std::vector<BoundBuffer>& buffers) {
  std::vector<std::byte> bytes;
  for (const BoundBuffer& b : buffers) bytes.insert(bytes.end(), b.data, b.data + b.size_bytes);
  return bytes;
}

/// A rank that takes part in a story with a reload.
class FollowingServer {
 public:
  FollowingServer(const Story& story, Transport* given, bool lands_directly)
      : src(*story.src, given->rank(), given, true),
        dst(*story.dst.front(), given->rank(), given, true),
        story_(story),
        transport_(given),
        lands_directly_(lands_directly) {}

  Status bind() {
    BindOptions options{story_.plans.front(), transport_, src.bound(), {}, nullptr, testing::kTimeoutUs};
    options.arguments = reload.prepare({transport_, transport_, make_host_copier}, story_.plans.front(),
                                       {dst.bound(), {}, lands_directly_});
    options.dst = reload.landing();
    options.holds_groups = true;
    options.call = BindCall::kCreateReload;
    RESHARD_TRY(binding, Binding::create(options));
    reload.attach(binding.get());
    return {};
  }

  /// To the plan with this number, with buffers that lie elsewhere.
  Status update(std::size_t plan, std::vector<BoundBuffer> moved_src = {}, std::vector<BoundBuffer> moved_dst = {}) {
    Reload next;
    UpdateOptions options;
    options.plan = story_.plans[plan];
    options.timeout_us = testing::kTimeoutUs;
    options.call = BindCall::kUpdateReload;
    options.src = std::move(moved_src);
    options.arguments = next.follow(reload, story_.plans[plan], {std::move(moved_dst), {}, lands_directly_});
    options.dst = next.landing();
    Result<std::unique_ptr<Binding>> updated = Binding::update(*binding, std::move(options));
    RESHARD_TRY(updated.status());
    binding = std::move(updated).take();
    next.attach(binding.get());
    reload = std::move(next);
    dst.adopt(*story_.dst[plan]);
    return {};
  }

  std::string run(std::int64_t salt) {
    src.fill(salt);
    dst.poison();
    Status status = reload.start(nullptr);
    while (status.ok()) {
      const Result<const Layer*> layer = reload.next(Deadline(testing::kTimeoutUs));
      status = layer.status();
      if (!status.ok() || *layer == nullptr) break;
      status = reload.commit((*layer)->group, nullptr);
    }
    const Status finished = reload.finish(testing::kTimeoutUs);
    return finished.ok() ? dst.check(salt) : finished.message() + "\n";
  }

  RankBuffers src;
  RankBuffers dst;
  Reload reload;
  std::unique_ptr<Binding> binding;  // destroyed first

 private:
  const Story& story_;
  Transport* transport_;
  bool lands_directly_;
};

std::string follow(const Story& story, std::uint32_t seed, bool moves, Transport* transport) {
  std::mt19937 random(seed + static_cast<std::uint32_t>(transport->rank()));
  FollowingServer rank(story, transport, seed % 3 == 0);
  if (const Status bound = rank.bind(); !bound.ok()) return bound.message() + "\n";
  std::string wrong = rank.run(1);
  for (std::size_t plan = 1; plan < story.plans.size(); ++plan) {
    std::vector<BoundBuffer> src;
    std::vector<BoundBuffer> dst;
    if (moves && random() % 2 == 0) src = testing::move_some(&rank.src, &random);
    if (moves && random() % 2 == 0) dst = testing::move_some(&rank.dst, &random);
    const std::vector<BoundBuffer> landed = rank.reload.landing();
    const std::vector<std::byte> served = bytes_of(rank.dst.bound());
    if (const Status updated = rank.update(plan, src, dst); !updated.ok()) return updated.message() + "\n";
    if (bytes_of(rank.dst.bound()) != served) wrong += "what is served was changed by an update\n";
    // Tables take slots of the same sizes, so that all lands where it did.
    for (std::size_t i = 0; i < landed.size() && !moves; ++i) {
      if (rank.reload.landing()[i].data != landed[i].data) wrong += "lands elsewhere than before\n";
    }
    if (!moves && !story.is_new[plan] && rank.binding->shared_memory().num_mapped() > 0) wrong += "mapped anew\n";
    for (const std::int64_t run : {0, 1}) wrong += rank.run(static_cast<std::int64_t>(plan) * 10 + run);
  }
  rank.binding.reset();
  return transport->allgather({}, Deadline(testing::kTimeoutUs)).ok() ? wrong : wrong + "barrier\n";
}

RC_GTEST_PROP(ReloadUpdateTest, BringsWhatTheNewTablesSayAndKeepsWhatIsServed, ()) {
  const std::vector<std::uint32_t> numbers = testing::random_numbers();
  Choices choices(numbers);
  const std::optional<Story> story = testing::random_story(&choices, choices.pick(4));
  if (!story.has_value()) return;
  const auto seed = static_cast<std::uint32_t>(choices.pick(1 << 20));
  const bool moves = choices.pick(3) > 0;
  RC_ASSERT(run_ranks(story->num_ranks(), [&](Transport* t) { return follow(*story, seed, moves, t); }) == "");
}

/// Rank 1 has not heard of the new table; after that rank 2 is in the middle of a run of its own.
TEST(ReloadUpdateTest, WhereOneRankCannotAllKeepTheReloadThatTheyHave) {
  const Story story = testing::two_tables();
  EXPECT_EQ(run_ranks(4,
                      [&](Transport* transport) -> std::string {
                        FollowingServer rank(story, transport, false);
                        if (const Status bound = rank.bind(); !bound.ok()) return bound.message();
                        std::string wrong = rank.run(1);
                        const Status stale = rank.update(transport->rank() == 1 ? 0 : 1);
                        EXPECT_EQ(stale.code(), RESHARD_ERR_PLAN_MISMATCH);
                        EXPECT_THAT(stale.message(), HasSubstr("(is its table of experts stale?)"));
                        EXPECT_EQ(rank.reload.state(0), Reload::State::kComplete);
                        wrong += rank.run(2);
                        if (const Status updated = rank.update(1); !updated.ok()) return updated.message();
                        // Of the run before, until there is another.
                        EXPECT_EQ(rank.reload.state(0), Reload::State::kComplete);
                        wrong += rank.run(3);
                        EXPECT_TRUE(rank.reload.start(nullptr).ok());
                        EXPECT_EQ(rank.update(0).code(), RESHARD_ERR_INVALID_STATE);
                        EXPECT_TRUE(rank.reload.finish(testing::kTimeoutUs).ok());
                        rank.binding.reset();
                        return transport->allgather({}, Deadline(testing::kTimeoutUs)).ok() ? wrong : "barrier\n";
                      }),
            "");
}

/// Two layers may be open where one could be: what there was for one layer has no room for the second.
TEST(ReloadUpdateTest, MoreOpenLayersGetLargerScratch) {
  Story story = testing::two_tables();
  PlanOptions options;
  for (const std::int64_t open_groups : {1, 2}) {
    options.open_groups = open_groups;
    story.plans[static_cast<std::size_t>(open_groups) - 1] =
        std::make_shared<const Plan>(*create_plan(story.src, story.dst.front(), options));
  }
  story.dst.back() = story.dst.front();
  EXPECT_EQ(run_ranks(4,
                      [&](Transport* transport) -> std::string {
                        FollowingServer rank(story, transport, false);
                        if (const Status bound = rank.bind(); !bound.ok()) return bound.message();
                        std::string wrong = rank.run(1);
                        const std::int64_t before = rank.reload.scratch_bytes();
                        if (const Status updated = rank.update(1); !updated.ok()) return updated.message();
                        const bool is_server = !rank.dst.bound().empty();
                        EXPECT_EQ(rank.reload.scratch_bytes(), is_server ? 2 * before : 0);
                        wrong += rank.run(2);
                        rank.binding.reset();
                        return transport->allgather({}, Deadline(testing::kTimeoutUs)).ok() ? wrong : "barrier\n";
                      }),
            "");
}

}  // namespace
}  // namespace reshard
