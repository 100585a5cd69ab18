// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/exec/stage_meetings.h"

#include <map>
#include <tuple>

namespace reshard::testing {
namespace {

class Matcher {
 public:
  explicit Matcher(StageMeetings& of) : of_(of) {}

  std::size_t meet(std::size_t r, std::size_t stage, StepId id, bool is_out, bool is_mapped) {
    const WindowStep& step = is_out ? of_.stages[r].out(id) : of_.stages[r].in(id);
    const auto rank = static_cast<std::int32_t>(r);
    Way& way = ways_[is_out ? std::tuple{rank, step.peer, is_mapped} : std::tuple{step.peer, rank, is_mapped}];
    std::size_t& n = is_out ? way.num_out : way.num_in;
    if (n == way.meetings.size()) {
      way.meetings.push_back(of_.all.size());
      of_.all.emplace_back();
    }
    const std::size_t meeting = way.meetings[n++];
    (is_out ? of_.all[meeting].out : of_.all[meeting].in) = {rank, stage, id};
    return meeting;
  }

 private:
  struct Way {
    std::vector<std::size_t> meetings;
    std::size_t num_out = 0;  // that the sender has listed so far
    std::size_t num_in = 0;
  };
  StageMeetings& of_;
  std::map<std::tuple<std::int32_t, std::int32_t, bool>, Way> ways_;  // from, to, is_mapped
};

}  // namespace

StageMeetings::StageMeetings(std::span<const StageSchedule> given)
    : stages(given), messages(given.size()), reads(given.size()) {
  Matcher matcher(*this);
  for (std::size_t r = 0; r < stages.size(); ++r) {
    const StageSchedule& of = stages[r];
    messages[r].resize(of.stages.size());
    reads[r].resize(of.stages.size());
    for (std::size_t s = 0; s < of.stages.size(); ++s) {
      for (const StepId id : of.sends(s)) messages[r][s].push_back(matcher.meet(r, s, id, true, false));
      for (const StepId id : of.receives(s)) messages[r][s].push_back(matcher.meet(r, s, id, false, false));
      for (const StepId id : of.reads(s)) reads[r][s].push_back(matcher.meet(r, s, id, false, true));
      for (const StepId id : of.lends(s)) matcher.meet(r, s, id, true, true);
    }
  }
}

}  // namespace reshard::testing
