// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Runs that are given up between processes: whoever gave up reuses its memory at once.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/types.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include "src/exec/bind.h"
#include "tests/unit/exec/proof.h"
#include "tests/unit/transport/ranks.h"

namespace reshard {
namespace {

using test::Kind;
using test::kPatienceUs;
using test::Verdict;

constexpr std::int64_t kBytes = 48 << 20;
constexpr auto kReused = std::byte{0x5A};

/// All of one tensor goes from rank `source` to the next.
std::shared_ptr<const Plan> one_way_plan(std::int32_t num_ranks, std::int32_t source) {
  std::shared_ptr<ModelLayout> sides[2];
  for (std::int32_t i = 0; i < 2; ++i) {
    auto side = std::make_shared<ModelLayout>(num_ranks);
    Placement placement;
    placement.mesh = *Mesh::create({{"r", 1}}, {source + i});
    placement.dims.resize(1);
    placement.buffer = side->add_buffer("w", DType::kU8);
    static_cast<void>(side->place(*side->add_tensor({"w", DType::kU8, {kBytes}, 0}), placement).ok());
    sides[i] = side;
  }
  return std::make_shared<const Plan>(*create_plan(sides[0], sides[1], {}));
}

/// A rank's one buffer, and its binding.
struct End {
  End(Transport* given, bool is_mappable, BindingNumbers* numbers, std::int32_t source = 0)
      : transport(given), heap(is_mappable ? 0 : kBytes) {
    data = is_mappable ? static_cast<std::byte*>(*transport->allocate(kBytes)) : heap.data();
    BindOptions options{one_way_plan(transport->num_ranks(), source), transport, {}, {}, numbers, kPatienceUs};
    if (transport->rank() == source) options.src.push_back({0, data, kBytes});
    if (transport->rank() == source + 1) options.dst.push_back({0, data, kBytes});
    binding = testing::bind(options).take();
  }
  void fill(std::byte value) const { std::memset(data, static_cast<int>(value), kBytes); }
  /// Each byte is the first one: not byte by byte, which takes longer than the runs in a test that is not optimised.
  bool holds(std::byte value) const { return *data == value && std::memcmp(data, data + 1, kBytes - 1) == 0; }
  Status run(std::int64_t timeout_us) const {
    RESHARD_TRY(binding->driver().start());
    return binding->driver().finish(Deadline(timeout_us));
  }

  Transport* transport;
  std::vector<std::byte> heap;
  std::byte* data;
  std::unique_ptr<Binding> binding;
};

/// Rank `quitter` gives each run up a little later than the last, and overwrites its memory. The other must not take
/// that for the run's values, and nothing may be written into what the quitter has reused.
Verdict give_up(Transport& t, bool is_mappable, std::int32_t quitter) {
  BindingNumbers numbers;
  const End end(&t, is_mappable, &numbers);
  for (int run = 1; run <= 8; ++run) {
    const auto value = static_cast<std::byte>(run);
    end.fill(t.rank() == 0 ? value : std::byte{0});
    RESHARD_REQUIRE_HOLDS(test::barrier(t));
    const Status status = end.run(t.rank() == quitter ? 1 + 2000 * (run - 1) : kPatienceUs);
    if (status.ok() && t.rank() == 1) RESHARD_REQUIRE(end.holds(value));
    if (!status.ok()) {
      const bool is_known = status.code() == RESHARD_ERR_TIMEOUT || status.code() == RESHARD_ERR_ABANDONED;
      if (!is_known) return fmt::format("run {}: {}", run, status.message());
      end.fill(kReused);
    }
    RESHARD_REQUIRE_HOLDS(test::barrier(t));
    for (const Deadline later(30'000); !later.expired();) t.progress();
    if (!status.ok()) RESHARD_REQUIRE(end.holds(kReused));
  }
  end.fill(t.rank() == 0 ? std::byte{99} : std::byte{0});
  RESHARD_REQUIRE_OK(end.run(kPatienceUs));
  RESHARD_REQUIRE(t.rank() == 0 || end.holds(std::byte{99}));
  return test::barrier(t);
}

/// Rank 0 is stopped in the middle of a run. Rank 1 gives the run up within its deadline and a little, destroys its
/// binding and reuses its memory; when rank 0 goes on, that stays as it is.
Verdict stop_in_the_middle(Transport& t, bool is_mappable) {
  const pid_t pid = getpid();
  std::vector<std::byte> mine(sizeof(pid));
  std::memcpy(mine.data(), &pid, sizeof(pid));
  const auto pids = t.allgather(mine, Deadline(kPatienceUs));
  RESHARD_REQUIRE_OK(pids);
  BindingNumbers numbers;
  End end(&t, is_mappable, &numbers);
  end.fill(std::byte{1});
  RESHARD_REQUIRE_HOLDS(test::barrier(t));
  if (t.rank() == 0) {
    static_cast<void>(end.run(kPatienceUs).ok());
    end.binding.reset();
  } else {
    pid_t other = 0;
    std::memcpy(&other, (*pids)[0].data(), sizeof(other));
    std::thread stopper([other] {
      std::this_thread::sleep_for(std::chrono::milliseconds(8));
      kill(other, SIGSTOP);
    });
    static_cast<void>(end.run(40'000).ok());
    stopper.join();
    end.binding.reset();
    end.fill(kReused);
    kill(other, SIGCONT);
    for (const Deadline later(300'000); !later.expired();) t.progress();
    RESHARD_REQUIRE(end.holds(kReused));
  }
  RESHARD_REQUIRE_HOLDS(test::barrier(t));
  const End again(&t, is_mappable, &numbers);
  again.fill(t.rank() == 0 ? std::byte{7} : std::byte{0});
  RESHARD_REQUIRE_OK(again.run(kPatienceUs));
  RESHARD_REQUIRE(t.rank() == 0 || again.holds(std::byte{7}));
  return test::barrier(t);
}

/// Rank 1 dies while rank 2 waits for it, in a run that rank 0 has nothing to do with: it sleeps, outside the library.
Verdict die_while_awaited(Transport& t, bool is_mappable, const test::SharedCount& told) {
  BindingNumbers numbers;
  const End end(&t, is_mappable, &numbers, 1);
  RESHARD_REQUIRE_HOLDS(test::barrier(t));
  if (t.rank() == 0) {
    RESHARD_REQUIRE(told.await(1));
    return {};
  }
  if (t.rank() == 1) kill(getpid(), SIGKILL);
  const auto begin = std::chrono::steady_clock::now();
  const Status status = end.run(kPatienceUs);
  told.add_one();
  // Far above what it takes: the cores are shared.
  RESHARD_REQUIRE(std::chrono::steady_clock::now() - begin < std::chrono::seconds(15));
  if (status.code() == RESHARD_ERR_PEER_FAILED) return {};
  return "the run ended with: " + status.message();
}

class ProcessesTest : public ::testing::TestWithParam<std::tuple<Kind, bool>> {
 protected:
  static void run(const test::Scenario& scenario) {
    EXPECT_EQ(test::run_ranks(std::get<0>(GetParam()), 2, scenario), "");
  }
  static bool is_mappable() { return std::get<1>(GetParam()); }
};

TEST_P(ProcessesTest, ASourceThatGivesUpSpoilsNoSuccess) {
  run([](Transport& t) { return give_up(t, is_mappable(), 0); });
}

TEST_P(ProcessesTest, AReceiverThatGivesUpKeepsItsMemory) {
  run([](Transport& t) { return give_up(t, is_mappable(), 1); });
}

TEST_P(ProcessesTest, ADeathIsToldWhileRankZeroIsBusy) {
  const test::SharedCount told;
  const auto scenario = [&](Transport& t) { return die_while_awaited(t, is_mappable(), told); };
  EXPECT_EQ(test::run_ranks(std::get<0>(GetParam()), 3, scenario, {1}), "");
}

TEST_P(ProcessesTest, ADestroyedBindingWritesNothing) {
  run([](Transport& t) { return stop_in_the_middle(t, is_mappable()); });
}

#ifdef RESHARD_HAVE_UCX
INSTANTIATE_TEST_SUITE_P(Transports, ProcessesTest,
                         ::testing::Combine(::testing::Values(Kind::kUcx, Kind::kUcxTcp), ::testing::Bool()),
                         [](const auto& path) {
                           return test::name_of(std::get<0>(path.param)) +
                                  (std::get<1>(path.param) ? "Mapped" : "Heap");
                         });
#else
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ProcessesTest);
#endif

}  // namespace
}  // namespace reshard
