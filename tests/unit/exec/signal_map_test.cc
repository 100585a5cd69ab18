// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The flags between ranks, looked at from both ends of every pair: each end has numbered them by itself.
#include "src/exec/signal_map.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <map>
#include <set>

#include "tests/unit/exec/random_stages.h"

namespace reshard {
namespace {

using testing::Choices;
using testing::RandomStages;

using Flags = std::vector<SignalMap::Flag>;
using Sections = std::map<std::int32_t, SignalMap::Section>;

/// What a flag of a pair stands for: the stage, and how many windows they share in it.
struct Meaning {
  StageKey key;
  std::int64_t num_windows = 0;
  bool operator==(const Meaning&) const = default;
};
using Meanings = std::map<std::int64_t, Meaning>;  // by number of the flag

/// Of the flags between a rank and a peer, as lender or as reader.
Meanings meanings(const StageSchedule& stages, const SignalMap& map, std::int32_t peer, bool is_lender) {
  Meanings all;
  for (std::size_t s = 0; s < stages.stages.size(); ++s) {
    std::int64_t num_windows = 0;
    for (const StepId id : is_lender ? stages.lends(s) : stages.reads(s)) {
      num_windows += (is_lender ? stages.out(id) : stages.in(id)).peer == peer ? 1 : 0;
    }
    for (const SignalMap::Flag& flag : (is_lender ? map.lends() : map.reads())[s]) {
      if (flag.peer == peer) all[flag.number] = {stages.stages[s].key, num_windows};
    }
  }
  return all;
}

std::int64_t count_of(const Sections& sections, std::int32_t rank) {
  const auto found = sections.find(rank);
  return found == sections.end() ? 0 : found->second.count;
}

/// Both ends mean the same stage by each of their flags, and every stage in which they share a window has one.
std::string check_pair(const RandomStages::Rank& lender, const SignalMap& of_lender, const RandomStages::Rank& reader,
                       const SignalMap& of_reader) {
  const std::int32_t lends = lender.stages.schedule.rank;
  const std::int32_t reads = reader.stages.schedule.rank;
  const std::int64_t count = count_of(of_lender.readers(), reads);
  if (count != count_of(of_reader.lenders(), lends)) return "the ends count differently";
  const Meanings there = meanings(lender.stages, of_lender, reads, true);
  if (there != meanings(reader.stages, of_reader, lends, false)) return "the ends mean different stages";
  if (count > 0 && std::ssize(there) != count - 1) return "two stages have one flag";
  for (const auto& [number, meaning] : there) {
    if (number < 1 || number >= count) return "a flag is not in its section";
    if (meaning.num_windows == 0) return "a flag of no window";
  }
  std::int64_t num_windows = 0;
  for (const auto& [number, meaning] : there) num_windows += meaning.num_windows;
  for (const StepId id : lender.stages.all_lends) num_windows -= lender.stages.out(id).peer == reads ? 1 : 0;
  return num_windows == 0 ? "" : "windows without a flag";
}

/// Rows hold the word that runs stand, and then each section, none in another.
std::string check_row(const SignalMap& map) {
  std::int64_t end = 1;
  for (const Sections* sections : {&map.lenders(), &map.readers()}) {
    for (const auto& [rank, section] : *sections) {
      if (section.first != end || section.count < 1) return "sections do not follow each other";
      end += section.count;
    }
  }
  return end == map.num_flags() ? "" : "the row is longer than its sections";
}

/// Everything that was lent is waited for once, at the first wait that is behind it; sources at the end.
std::string check_awaited(const RandomStages::Rank& rank, const SignalMap& map) {
  std::multiset<std::pair<std::int32_t, std::int64_t>> wanted;
  std::multiset<std::pair<std::int32_t, std::int64_t>> found;
  std::int32_t after = -1;
  for (std::size_t i = 0; i < map.awaited().size(); ++i) {
    const std::int32_t up_to = rank.program.awaited[i];
    for (std::int32_t s = after + 1; s <= up_to && s < std::ssize(map.lends()); ++s) {
      for (const SignalMap::Flag& flag : at(map.lends(), s)) wanted.emplace(flag.peer, flag.number);
    }
    after = up_to;
    if (i + 1 == map.awaited().size()) {
      for (const std::int32_t peer : rank.stages.schedule.pulled_by) wanted.emplace(peer, 0);
    }
    for (const SignalMap::Flag& flag : map.awaited()[i]) found.emplace(flag.peer, flag.number);
    if (wanted != found) return fmt::format("wait {} is for other flags", i);
  }
  const bool lends = !rank.stages.all_lends.empty() || !rank.stages.schedule.pulled_by.empty();
  return lends == map.awaited().empty() ? "nobody waits for the readers" : "";
}

/// Of each lender it is said once that this rank has read its source: with the last pull that reads it.
std::string check_pulls(const RandomStages::Rank& rank, const SignalMap& map) {
  std::map<std::int32_t, std::size_t> last;
  for (std::size_t i = 0; i < rank.program.pulls.size(); ++i) {
    std::set<std::int32_t> peers;
    for (std::int32_t p = rank.program.pulls[i].begin; p < rank.program.pulls[i].end; ++p) {
      peers.insert(at(rank.stages.schedule.pulls, p).peer);
    }
    for (const SignalMap::Flag& flag : map.pulls()[i]) {
      if (flag.number != 0 || peers.erase(flag.peer) == 0) return "a pull waits for a flag that is not its source's";
    }
    if (!peers.empty()) return "a pull does not wait for a source";
    for (const SignalMap::Flag& flag : map.pulls()[i]) last[flag.peer] = i;
  }
  for (std::size_t i = 0; i < map.last_pulls().size(); ++i) {
    for (const SignalMap::Flag& flag : map.last_pulls()[i]) {
      if (flag.number != 0 || last[flag.peer] != i) return "a source is let go at the wrong pull";
      last.erase(flag.peer);
    }
  }
  return last.empty() ? "" : "a source is never let go";
}

TEST(SignalMapTest, BothEndsOfEveryPairMeanTheSameByAFlag) {
  std::int64_t num_flags = 0;
  ASSERT_TRUE(rc::check([&](const std::vector<std::uint32_t>& numbers) {
    Choices choices(numbers);
    const RandomStages random(&choices);
    std::vector<SignalMap> maps;
    for (const RandomStages::Rank& rank : random.ranks()) maps.emplace_back(rank.stages, rank.program);
    for (std::size_t i = 0; i < maps.size(); ++i) {
      const RandomStages::Rank& rank = random.ranks()[i];
      num_flags += maps[i].num_flags() - 1;
      RC_ASSERT(check_row(maps[i]) == "");
      RC_ASSERT(check_awaited(rank, maps[i]) == "");
      RC_ASSERT(check_pulls(rank, maps[i]) == "");
      for (std::size_t j = 0; j < maps.size(); ++j) {
        RC_ASSERT(check_pair(rank, maps[i], random.ranks()[j], maps[j]) == "");
      }
    }
  }));
  EXPECT_GT(num_flags, 0);
}

}  // namespace
}  // namespace reshard
