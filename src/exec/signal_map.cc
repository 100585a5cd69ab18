// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/signal_map.h"

#include <algorithm>
#include <set>
#include <span>

namespace reshard {
namespace {

using Flags = std::vector<SignalMap::Flag>;

/// The flags of one stage: one for each rank that any of its windows is shared with. Counts them in the sections.
Flags flags_of(std::span<const StepId> windows, const Lanes& lanes, std::map<std::int32_t, SignalMap::Section>* all) {
  std::set<std::int32_t> peers;
  for (const StepId id : windows) peers.insert(at(lanes, id.lane).steps[id.index].peer);
  Flags flags;
  for (const std::int32_t peer : peers) {
    SignalMap::Section& section = all->try_emplace(peer, SignalMap::Section{0, 1}).first->second;
    flags.push_back({peer, section.count++});
  }
  return flags;
}

}  // namespace

SignalMap::SignalMap(const StageSchedule& stages, const StreamProgram& program) {
  add_windows(stages);
  add_pulls(stages, program);
  for (auto* sections : {&lenders_, &readers_}) {
    for (auto& [rank, section] : *sections) {
      section.first = num_flags_;
      num_flags_ += section.count;
    }
  }
  add_awaited(stages, program);
}

void SignalMap::add_windows(const StageSchedule& stages) {
  for (std::size_t stage = 0; stage < stages.stages.size(); ++stage) {
    lends_.push_back(flags_of(stages.lends(stage), stages.schedule.out, &readers_));
    reads_.push_back(flags_of(stages.reads(stage), stages.schedule.in, &lenders_));
  }
}

void SignalMap::add_pulls(const StageSchedule& stages, const StreamProgram& program) {
  for (const std::int32_t rank : stages.schedule.pulled_by) {
    readers_.try_emplace(rank, Section{0, 1});
    source_readers_.push_back({rank, 0});
  }
  std::map<std::int32_t, std::size_t> last;  // pull, by rank
  for (const StreamProgram::Pull& pull : program.pulls) {
    Flags flags;
    for (std::int32_t i = pull.begin; i < pull.end; ++i) {
      const std::int32_t peer = at(stages.schedule.pulls, i).peer;
      lenders_.try_emplace(peer, Section{0, 1});
      last[peer] = pulls_.size();
      flags.push_back({peer, 0});
    }
    pulls_.push_back(std::move(flags));
  }
  last_pulls_.resize(pulls_.size());
  for (const auto& [rank, pull] : last) last_pulls_[pull].push_back({rank, 0});
}

void SignalMap::add_awaited(const StageSchedule& stages, const StreamProgram& program) {
  std::size_t stage = 0;
  for (const std::int32_t up_to : program.awaited) {
    Flags& flags = awaited_.emplace_back();
    for (; stage < lends_.size() && static_cast<std::int32_t>(stage) <= up_to; ++stage) {
      flags.insert(flags.end(), lends_[stage].begin(), lends_[stage].end());
    }
    const bool is_end = up_to == static_cast<std::int32_t>(stages.stages.size());
    if (is_end) flags.insert(flags.end(), source_readers_.begin(), source_readers_.end());
  }
}

}  // namespace reshard
