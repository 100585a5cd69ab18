// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/schedule/colouring.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>

#include "src/base/at.h"

namespace reshard {
namespace {

struct Matrix {
  std::int32_t num_src = 0;
  std::int32_t num_dst = 0;
  std::vector<Entry> entries;
};

std::vector<std::int32_t> slots_of(const Rounds& rounds, std::size_t entry) {
  return {rounds.numbers.begin() + rounds.first[entry], rounds.numbers.begin() + rounds.first[entry + 1]};
}

/// Entries that are scheduled, small and empty have the right number of slots, in ascending order.
void check_counts(const Matrix& matrix, const Rounds& rounds) {
  RC_ASSERT(rounds.first.size() == matrix.entries.size() + 1);
  RC_ASSERT(rounds.first.front() == 0);
  RC_ASSERT(rounds.first.back() == static_cast<std::int64_t>(rounds.numbers.size()));
  for (std::size_t i = 0; i < matrix.entries.size(); ++i) {
    const std::int64_t bytes = matrix.entries[i].bytes;
    const auto slots = slots_of(rounds, i);
    const auto count = static_cast<std::int64_t>(slots.size());
    const std::int64_t rounded_up = (bytes + rounds.chunk_bytes - 1) / rounds.chunk_bytes;
    if (bytes == 0) {
      RC_ASSERT(count == 0);
    } else if (bytes < rounds.chunk_bytes / 8) {
      RC_ASSERT(count == 1);
    } else if (bytes < rounds.chunk_bytes * 4) {
      RC_ASSERT(count == rounded_up);
    } else {
      RC_ASSERT((count == rounded_up || count == bytes / rounds.chunk_bytes));
    }
    for (std::size_t s = 0; s < slots.size(); ++s) {
      RC_ASSERT(slots[s] >= (s == 0 ? 0 : slots[s - 1] + 1));
      RC_ASSERT(slots[s] < rounds.num_rounds);
    }
  }
}

/// No line twice in a round.
void check_matchings(const Matrix& matrix, const Rounds& rounds) {
  const auto num_rounds = static_cast<std::size_t>(rounds.num_rounds);
  const auto num_lines = static_cast<std::size_t>(matrix.num_src + matrix.num_dst);
  std::vector<bool> is_busy(num_rounds * num_lines);
  for (std::size_t i = 0; i < matrix.entries.size(); ++i) {
    const Entry& entry = matrix.entries[i];
    if (entry.bytes < rounds.chunk_bytes / 8) continue;
    for (const std::int32_t slot : slots_of(rounds, i)) {
      for (const std::int32_t line : {entry.src, matrix.num_src + entry.dst}) {
        const std::size_t cell = static_cast<std::size_t>(slot) * num_lines + static_cast<std::size_t>(line);
        RC_ASSERT(!is_busy[cell]);
        is_busy[cell] = true;
      }
    }
  }
}

/// Every dyadic part of the time has its share of every entry's slots, rounded down or up.
void check_spread(const Matrix& matrix, const Rounds& rounds, int log2_rounds) {
  if (rounds.num_rounds != 1 << log2_rounds) return;  // rounds that were left out have moved the parts
  for (std::size_t i = 0; i < matrix.entries.size(); ++i) {
    if (matrix.entries[i].bytes < rounds.chunk_bytes / 8) continue;
    const auto slots = slots_of(rounds, i);
    for (int depth = 1; depth <= log2_rounds; ++depth) {
      std::vector<std::size_t> count(std::size_t{1} << depth);
      for (const std::int32_t slot : slots) ++at(count, slot >> (log2_rounds - depth));
      const auto [least, most] = std::minmax_element(count.begin(), count.end());
      RC_ASSERT(*least >= slots.size() >> depth);
      RC_ASSERT(*most <= (slots.size() + count.size() - 1) >> depth);
    }
  }
}

Matrix lognormal(std::int32_t size, std::size_t fan, std::uint64_t seed) {
  Matrix out{size, size, {}};
  std::mt19937_64 random(seed);
  std::lognormal_distribution<double> bytes(16, 1);
  std::uniform_int_distribution<std::int32_t> any(0, size - 1);
  for (std::int32_t src = 0; src < size; ++src) {
    std::set<std::int32_t> dsts;
    while (dsts.size() < fan) dsts.insert(any(random));
    for (const std::int32_t dst : dsts) out.entries.push_back({src, dst, static_cast<std::int64_t>(bytes(random))});
  }
  return out;
}

std::int64_t max_line(const Matrix& matrix) {
  std::vector<std::int64_t> sums(static_cast<std::size_t>(matrix.num_src + matrix.num_dst));
  for (const Entry& entry : matrix.entries) {
    at(sums, entry.src) += entry.bytes;
    at(sums, matrix.num_src + entry.dst) += entry.bytes;
  }
  return *std::max_element(sums.begin(), sums.end());
}

TEST(ColouringTest, EveryRoundIsAMatchingAndEveryEntryIsSpread) {
  ASSERT_TRUE(rc::check([] {
    Matrix matrix{*rc::gen::inRange(1, 12), *rc::gen::inRange(1, 12), {}};
    const auto count = *rc::gen::inRange(0, 60);
    for (int i = 0; i < count; ++i) {
      const auto magnitude = *rc::gen::inRange(0, 40);
      matrix.entries.push_back({*rc::gen::inRange(0, matrix.num_src), *rc::gen::inRange(0, matrix.num_dst),
                                *rc::gen::inRange<std::int64_t>(0, std::int64_t{1} << magnitude)});
    }
    const int log2_rounds = *rc::gen::inRange(0, 9);
    const Rounds rounds = colour(matrix.entries, matrix.num_src, matrix.num_dst, log2_rounds);
    RC_ASSERT(rounds.num_rounds <= 1 << log2_rounds);
    check_counts(matrix, rounds);
    check_matchings(matrix, rounds);
    check_spread(matrix, rounds, log2_rounds);
  }));
}

TEST(ColouringTest, SkewedRowsNeedOnePercentMoreThanTheLongestLine) {
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    const Matrix matrix = lognormal(512, 16, seed);
    const Rounds rounds = colour(matrix.entries, 512, 512, 10);
    check_counts(matrix, rounds);
    check_matchings(matrix, rounds);
    check_spread(matrix, rounds, 10);
    EXPECT_LE(rounds.num_rounds, 1024);
    EXPECT_LE(static_cast<double>(rounds.num_rounds) * static_cast<double>(rounds.chunk_bytes),
              1.01 * static_cast<double>(max_line(matrix)));
  }
}

TEST(ColouringTest, BalancedLoadFillsEveryRound) {
  Matrix matrix{8, 8, {}};
  for (std::int32_t src = 0; src < 8; ++src) {
    for (std::int32_t dst = 0; dst < 8; ++dst) matrix.entries.push_back({src, dst, 1000});
  }
  const Rounds rounds = colour(matrix.entries, 8, 8, 5);  // 32 rounds: 4 chunks each, one in every 8 rounds
  EXPECT_EQ(rounds.chunk_bytes, 250);
  EXPECT_EQ(rounds.num_rounds, 32);
  for (std::size_t i = 0; i < matrix.entries.size(); ++i) {
    const auto slots = slots_of(rounds, i);
    ASSERT_EQ(slots.size(), 4U);
    for (std::int32_t s = 0; s < 4; ++s) EXPECT_EQ(at(slots, s) / 8, s);
  }
}

TEST(ColouringTest, SmallEntriesOfASenderAreSpreadAndHoldNoPort) {
  Matrix matrix{1, 5, {{0, 0, 64'000}}};
  for (std::int32_t dst = 1; dst < 5; ++dst) matrix.entries.push_back({0, dst, 10});
  const Rounds rounds = colour(matrix.entries, 1, 5, 6);
  EXPECT_EQ(rounds.num_rounds, 64);
  EXPECT_EQ(slots_of(rounds, 0).size(), 64U);
  for (std::int32_t i = 1; i < 5; ++i) {
    EXPECT_TRUE(rounds.is_small(at(matrix.entries, i)));
    EXPECT_EQ(slots_of(rounds, static_cast<std::size_t>(i)), std::vector<std::int32_t>{16 * i - 8});
  }
}

TEST(ColouringTest, NothingToSendTakesNoRound) {
  EXPECT_EQ(colour({}, 0, 0, 4).num_rounds, 0);
  const Rounds rounds = colour({{0, 1, 0}}, 2, 2, 4);
  EXPECT_EQ(rounds.num_rounds, 0);
  EXPECT_EQ(rounds.first, (std::vector<std::int64_t>{0, 0}));
}

TEST(ColouringTest, OneByteTakesOneRound) {
  const Rounds rounds = colour({{1, 0, 1}}, 2, 1, 10);
  EXPECT_EQ(rounds.num_rounds, 1);
  EXPECT_EQ(rounds.numbers, (std::vector<std::int32_t>{0}));
}

}  // namespace
}  // namespace reshard
