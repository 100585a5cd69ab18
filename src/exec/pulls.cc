// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/pulls.h"

#include <fmt/format.h>

#include <algorithm>

namespace reshard {

Pulls::Pulls(const BoundSchedule& bound, const std::map<std::int32_t, void*>& words, GroupCounter* groups,
             Confirmations* confirmations, Control* control)
    : bound_(bound), groups_(groups), confirmations_(confirmations), control_(control) {
  const Schedule& schedule = bound.schedule;
  source_of_peer_.resize(control->peers().size(), -1);
  for (const GroupStep& pull : schedule.pulls) ++sources_[source_index(pull.peer, words)].num_pulls;
  const std::vector<WindowStep>& windows = schedule.in[kMappedLane].steps;
  for (std::uint32_t i = 0; i < windows.size(); ++i) {
    sources_[source_index(windows[i].peer, words)].windows[windows[i].is_relayed ? 1 : 0].steps.push_back(i);
  }
  is_begun_.resize(schedule.pulls.size());
  is_read_.resize(windows.size());
  jobs_.reserve(bound.copier->most_jobs());
}

std::size_t Pulls::source_index(std::int32_t rank, const std::map<std::int32_t, void*>& words) {
  const std::size_t peer = control_->index_of(rank);
  if (source_of_peer_[peer] < 0) {
    source_of_peer_[peer] = static_cast<std::int32_t>(sources_.size());
    sources_.push_back({rank, peer, RunWord(words.at(rank)), 0, 0, {}});
  }
  return static_cast<std::size_t>(source_of_peer_[peer]);
}

void Pulls::begin(std::int64_t run) {
  run_ = run;
  for (Source& source : sources_) {
    source.pulls_left = source.num_pulls;
    for (Queue& queue : source.windows) queue.next = queue.num_read = 0;
  }
  is_begun_.assign(is_begun_.size(), false);
  is_read_.assign(is_read_.size(), false);
  first_pull_ = 0;
  jobs_.clear();
  num_left_ = is_begun_.size() + is_read_.size();
  may_start_ = true;
}

bool Pulls::awaits(std::size_t peer) const {
  const std::int32_t source = source_of_peer_[peer];
  return source >= 0 && !at(sources_, source).is_done();
}

/// The window that comes first in the plan's order, of those that are confirmed and whose groups are open.
bool Pulls::start_window() {
  const std::vector<WindowStep>& steps = bound_.schedule.in[kMappedLane].steps;
  Job best;
  for (std::size_t s = 0; s < sources_.size(); ++s) {
    for (std::int32_t kind = 0; kind < 2; ++kind) {
      const Queue& queue = at(sources_[s].windows, kind);
      if (queue.next == queue.steps.size()) continue;
      const std::uint32_t index = queue.steps[queue.next];
      if (!confirmations_->is_confirmed({kMappedLane, index})) continue;
      // It would write into a group that is not open yet. The last of its groups opens last.
      if (!groups_->is_open(bound_.schedule.work_of(steps[index]).back())) continue;
      if (best.kind < 0 || steps[index].key() < steps[best.index].key()) best = {s, kind, index, {}};
    }
  }
  if (best.kind < 0) return false;
  ++at(sources_[best.source].windows, best.kind).next;
  best.copy = CopyJob(bound_.in[kMappedLane][best.index].batch);
  jobs_.push_back(best);
  return true;
}

/// The first group that is open and whose source may be read.
bool Pulls::start_group() {
  while (first_pull_ < is_begun_.size() && is_begun_[first_pull_]) ++first_pull_;
  for (std::size_t i = first_pull_; i < is_begun_.size(); ++i) {
    const GroupStep& pull = bound_.schedule.pulls[i];
    if (!groups_->is_open(pull.position)) return false;
    const std::size_t peer = control_->index_of(pull.peer);
    if (is_begun_[i] || !control_->heard(peer).says(Snapshot::kReady)) continue;
    is_begun_[i] = true;
    jobs_.push_back({static_cast<std::size_t>(source_of_peer_[peer]), -1, i, CopyJob(bound_.pulls[i])});
    return true;
  }
  return false;
}

/// Windows go first: others may wait for them further on. Where nothing can begin, nothing can before a peer says
/// something, or a group is complete and lets the next one open.
void Pulls::start() {
  const std::size_t most = bound_.copier->most_jobs();
  if (!may_start_ && groups_->num_closed() == seen_groups_) return;
  seen_groups_ = groups_->num_closed();
  while (jobs_.size() < most) {
    may_start_ = start_window() || start_group();
    if (!may_start_) return;
  }
}

Status Pulls::step(bool* moved) {
  start();
  for (std::size_t i = 0; i < jobs_.size();) {
    RESHARD_TRY(bound_.copier->advance(&jobs_[i].copy, moved));
    if (!jobs_[i].copy.is_done) {
      ++i;
      continue;
    }
    const Job job = jobs_[i];
    jobs_.erase(jobs_.begin() + static_cast<std::ptrdiff_t>(i));
    RESHARD_TRY(finish(job));
    *moved = true;
  }
  return {};
}

/// The word is looked at after the copy, not before: only then does it say that all that was read was the run's
/// (RunWord).
Status Pulls::finish(const Job& job) {
  Source& source = sources_[job.source];
  if (!source.word.is(run_)) {
    return {RESHARD_ERR_ABANDONED, fmt::format("rank {} gave the run up while its memory was read", source.rank)};
  }
  --num_left_;
  if (job.kind >= 0) {
    finish_window(&source, job);
    return {};
  }
  if (--source.pulls_left == 0) control_->say(source.peer, Snapshot::kDone);
  groups_->complete(bound_.schedule.pulls[job.index].position);
  return {};
}

/// Several may be under way and end in any order; the peer is told of the first ones without a gap.
void Pulls::finish_window(Source* source, const Job& job) {
  Queue& queue = at(source->windows, job.kind);
  is_read_[job.index] = true;
  while (queue.num_read < queue.steps.size() && is_read_[queue.steps[queue.num_read]]) ++queue.num_read;
  control_->tell_read(source->peer, static_cast<std::size_t>(job.kind), static_cast<std::int64_t>(queue.num_read));
  confirmations_->arrived({kMappedLane, static_cast<std::uint32_t>(job.index)});
}

}  // namespace reshard
