// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <cstring>

#include "src/reload/reload.h"
#include "tests/unit/exec/world.h"
#include "tests/unit/plan/fleet.h"

namespace reshard {
namespace {

using testing::Choices;
using testing::RankBuffers;
using testing::Scenario;

constexpr std::int64_t kTimeoutUs = 20'000'000;

/// What the ranks do, and what is found wrong with it.
struct Job {
  Scenario scenario;
  std::shared_ptr<const Plan> plan;
  bool src_mappable = false;
  bool lands_directly = false;
  std::int64_t held = 1;         ///< layers that the caller keeps before he commits the first of them
  std::int32_t quitter = -1;     ///< rank that gives up in the second run; -1: none
  std::int64_t quits_after = 0;  ///< layers that it commits first
};

std::vector<std::byte> copy_of(const std::vector<BoundBuffer>& buffers) {
  std::vector<std::byte> bytes;
  for (const BoundBuffer& b : buffers) bytes.insert(bytes.end(), b.data, b.data + b.size_bytes);
  return bytes;
}

/// One rank of a job, with where its layers stay.
class Server {
 public:
  Server(const Job& job, Transport* transport)
      : job_(job),
        transport_(transport),
        src_(*job.scenario.src, transport->rank(), transport, job.src_mappable),
        dst_(*job.scenario.dst, transport->rank(), transport, false) {}

  std::string run() {
    const Status made = make();
    if (!made.ok()) return made.code() == RESHARD_ERR_INVALID_ARGUMENT ? "" : made.message() + "\n";
    std::string wrong;
    for (int run = 0; run < 3; ++run) {
      src_.fill(run);
      dst_.poison();
      const bool fails = run == 1 && job_.quitter >= 0;
      wrong += reload_once(run, fails);
    }
    binding_.reset();
    const auto barrier = transport_->allgather({}, Deadline(kTimeoutUs));
    return wrong + (barrier.ok() ? "" : barrier.status().message() + "\n");
  }

 private:
  /// All ranks alike: whether a layout can be reloaded is the vote of all.
  Status make() {
    BindOptions options{job_.plan, transport_, src_.bound(), dst_.bound(), nullptr, kTimeoutUs};
    options.arguments =
        reload_.prepare({transport_, transport_, make_host_copier}, job_.plan, {dst_.bound(), {}, job_.lands_directly});
    options.dst = reload_.landing();
    options.holds_groups = true;
    RESHARD_TRY(binding_, Binding::create(options));
    reload_.attach(binding_.get());
    return {};
  }

  std::string reload_once(int run, bool fails) {
    std::string wrong;
    Status status = reload_.start(nullptr);
    if (status.ok()) status = take_layers(run, fails, &wrong);
    const Status finished = reload_.finish(kTimeoutUs);
    if (fails && finished.ok()) wrong += "success where a rank gave up\n";
    if (fails && transport_->rank() == job_.quitter && finished.code() != RESHARD_ERR_GIVEN_UP) {
      wrong += "who gave up is told " + finished.message() + "\n";
    }
    if (!fails && !finished.ok()) wrong += finished.message() + "\n";
    wrong += fails ? check_layers(run) : dst_.check(run);
    return wrong;
  }

  Status take_layers(int run, bool fails, std::string* wrong) {
    std::vector<std::int32_t> mine;  // handed out
    std::int64_t num_committed = 0;
    const bool quits = fails && transport_->rank() == job_.quitter;
    const auto commit_first = [&]() -> Status {
      if (!job_.lands_directly && copy_of(dst_.bound()) != before_) *wrong += "changed before it was committed\n";
      const std::int32_t group = mine.front();
      mine.erase(mine.begin());
      RESHARD_TRY(reload_.commit(group, nullptr));
      ++num_committed;
      before_ = copy_of(dst_.bound());
      *wrong += dst_.check(run, at(job_.plan->groups, group));
      return {};
    };
    before_ = copy_of(dst_.bound());
    while (true) {
      if (quits && num_committed >= job_.quits_after) {
        return reload_.give_up({RESHARD_ERR_GIVEN_UP, "the test says so"});
      }
      if (std::ssize(mine) >= job_.held) RESHARD_TRY(commit_first());
      const Result<const Layer*> layer = reload_.next(Deadline(kTimeoutUs));
      // None can come before one is committed: as many as may be open are, those of which the rank has nothing, too.
      if (!layer.ok() && layer.status().code() == RESHARD_ERR_INVALID_STATE && !mine.empty()) {
        RESHARD_TRY(commit_first());
        continue;
      }
      RESHARD_TRY(layer.status());
      if (*layer == nullptr) break;
      mine.push_back((*layer)->group);
    }
    while (!mine.empty()) RESHARD_TRY(commit_first());
    // Who has fewer layers than that gives up when he has them all.
    return quits ? reload_.give_up({RESHARD_ERR_GIVEN_UP, "the test says so"}) : Status();
  }

  /// After a run that failed: a layer that is said to be complete is, and one that is unchanged is still poisoned.
  std::string check_layers(int run) {
    std::string wrong;
    for (std::size_t g = 0; g < job_.plan->groups.size(); ++g) {
      const auto group = static_cast<std::int32_t>(g);
      const Reload::State state = reload_.state(group);
      if (state == Reload::State::kTorn && !job_.lands_directly) wrong += "a layer in scratch is torn\n";
      if (state == Reload::State::kComplete) wrong += dst_.check(run, at(job_.plan->groups, group));
    }
    if (!job_.lands_directly && copy_of(dst_.bound()) != before_) wrong += "changed by what was not committed\n";
    return wrong;
  }

  const Job& job_;
  Transport* transport_;
  RankBuffers src_;
  RankBuffers dst_;
  Reload reload_;
  std::unique_ptr<Binding> binding_;
  std::vector<std::byte> before_;
};

std::optional<Job> random_job(Choices* choices) {
  Job job;
  const auto num_ranks = static_cast<std::int32_t>(1 + choices->pick(8));
  PlanOptions options = testing::random_options(choices, num_ranks);
  if (choices->pick(2) == 0) options.machine = nullptr;
  options.open_groups = choices->pick(4);
  job.src_mappable = choices->pick(2) == 0;
  job.lands_directly = choices->pick(3) == 1;
  job.held = 1 + choices->pick(3);
  job.quitter = static_cast<std::int32_t>(choices->pick(num_ranks + 1)) - 1;
  job.quits_after = choices->pick(3);
  const bool is_fleet = choices->pick(2) == 0;  // layers in buffers of their own, which can always be reloaded
  job.scenario = is_fleet ? testing::make_fleet(choices, num_ranks) : testing::make_scenario(choices, num_ranks);
  const Result<Plan> plan = create_plan(job.scenario.src, job.scenario.dst, options);
  if (!plan.ok()) return std::nullopt;  // no such network
  job.plan = std::make_shared<const Plan>(*plan);
  return job;
}

RC_GTEST_PROP(ReloadLawTest, LayersAreCompleteOrUnchangedAndChangeInCommitAlone, ()) {
  const std::vector<std::uint32_t> numbers = testing::random_numbers();
  Choices choices(numbers);
  const std::optional<Job> job = random_job(&choices);
  if (!job.has_value()) return;
  RC_ASSERT(testing::run_ranks(job->plan->num_ranks,
                               [&](Transport* transport) { return Server(*job, transport).run(); }) == "");
}

}  // namespace
}  // namespace reshard
