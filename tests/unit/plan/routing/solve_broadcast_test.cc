// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// One holder, and all others want everything. Where only what leaves and what enters a rank is limited, the least time
// has a closed form: as long as the holder takes to send the bytes once, as the slowest takes to get them, or as all
// together take to send them to each, whichever is longest.
#include <gtest/gtest.h>

#include "tests/optimum/random.h"
#include "tests/unit/plan/routing/solved.h"

namespace reshard::routing {
namespace {

using testing::HandRank;
using testing::kMega;
using testing::ranks_from;
using testing::Solved;

TEST(SolveTest, SevenOnAHostGetPartsAndGiveThemToEachOther) {
  const Solved solved(testing::hand_machine(std::vector<HandRank>(8, {0, -1, 0, 100 * kMega})),
                      {{{0}, ranks_from(1, 7), 700 * kMega}});
  solved.expect_seconds(7);
  EXPECT_NEAR(double(solved.load(ResourceKind::kLinkOut, 0)), 700e6, 7.1e6);
  for (int rank = 1; rank < 8; ++rank) EXPECT_EQ(solved.load(ResourceKind::kLinkIn, rank), 700 * kMega);
}

TEST(SolveTest, ASlowHolderSendsEachByteOnce) {
  std::vector<HandRank> ranks(8, {0, -1, 0, 100 * kMega});
  ranks[3].link = 50 * kMega;
  const Solved solved(testing::hand_machine(ranks), {{{3}, {0, 1, 2, 4, 5, 6, 7}, 700 * kMega}});
  solved.expect_seconds(14);
  EXPECT_LE(solved.load(ResourceKind::kLinkOut, 3), 707 * kMega);
}

TEST(SolveTest, AllSendWhatTheyCanWherePortsSendSlowerThanTheyReceive) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE(seed);
    optimum::Random random(seed);
    const int count = random.between(2, 9);
    std::vector<HandRank> ranks;
    for (int rank = 0; rank < count; ++rank) ranks.push_back({rank});
    Machine machine = testing::hand_machine(ranks);
    double sum = 0;
    double slowest = 1e9;
    for (const PortId port : machine.ports.ids()) {
      const std::int64_t out = random.between(1, 10) * kMega;
      const std::int64_t in = random.between(5, 30) * kMega;
      machine.ports[port].out.nominal_bytes_per_s = out;
      machine.ports[port].in.nominal_bytes_per_s = in;
      sum += static_cast<double>(out);
      if (port != 0) slowest = std::min(slowest, static_cast<double>(in));
    }
    const double bytes = 100e6;
    const double once = bytes / static_cast<double>(machine.ports[PortId(0)].out.nominal_bytes_per_s);
    const Solved solved(machine, {{{0}, ranks_from(1, count - 1), 100 * kMega}});
    const double by_one = std::max(once, bytes / slowest);
    const double by_all = (count - 1) * bytes / sum;
    // That all together are the limit takes prices to prove that are more alike than those of the last loads.
    solved.expect_seconds(std::max(by_one, by_all), by_one >= by_all);
  }
}

/// Four domains of four ranks whose links are fast: each domain's ports share the bytes.
TEST(SolveTest, EachByteEntersEachDomainOnceByAnyOfItsPorts) {
  std::vector<HandRank> ranks;
  for (int rank = 0; rank < 16; ++rank) ranks.push_back({rank / 4, rank % 4, kMega, 100 * kMega});
  const Solved solved(testing::hand_machine(ranks), {{{0}, ranks_from(1, 15), 400 * kMega}});
  solved.expect_seconds(100);
  for (int domain = 0; domain < 4; ++domain) {
    std::int64_t in = 0;
    for (const std::int32_t port : solved.machine.domains[DomainId(domain)].ports) {
      in += solved.load(ResourceKind::kNicIn, port);
    }
    EXPECT_EQ(in, domain == 0 ? 0 : 400 * kMega);
  }
}

/// A chain: every rank but the last sends as much as it gets.
TEST(SolveTest, AcrossDomainsOfOneRankTheHolderSendsEachByteOnce) {
  std::vector<HandRank> ranks;
  for (int rank = 0; rank < 12; ++rank) ranks.push_back({rank});
  const Solved solved(testing::hand_machine(ranks), {{{0}, ranks_from(1, 11), 100 * kMega}});
  solved.expect_seconds(100);
  EXPECT_GE(solved.load(ResourceKind::kNicOut, 0), 100 * kMega);
  EXPECT_LE(solved.load(ResourceKind::kNicOut, 0), 101 * kMega);
  for (int rank = 1; rank < 12; ++rank) EXPECT_EQ(solved.load(ResourceKind::kNicIn, rank), 100 * kMega);
  EXPECT_EQ(solved.num_staged(), 0);
}

}  // namespace
}  // namespace reshard::routing
