// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/flight.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "src/exec/tags.h"

namespace reshard {
namespace {

// Copies are run in pieces of this size, so that messages advance in between.
constexpr std::int64_t kCopyBudgetBytes = std::int64_t{1} << 20;

}  // namespace

Flight::Flight(Program given, const std::vector<bool>& read_by, Transport* transport)
    : program(std::move(given)),
      transport_(transport),
      groups_(program.work_of_group, program.num_open),
      messages_(program, &groups_, transport) {
  pull_done_.resize(program.pulls.size());
  std::set<std::int32_t> peers;
  for (const GroupCopies& pull : program.pulls) peers.insert(pull.peer);
  for (const std::int32_t peer : peers) sources_.emplace_back().peer = peer;
  for (std::size_t r = 0; r < read_by.size(); ++r) {
    if (read_by[r]) readers_.emplace_back().peer = static_cast<std::int32_t>(r);
  }
  transport->reserve(messages_.most_in_flight() + sources_.size() + readers_.size());
}

Status Flight::begin(std::uint64_t run_tag) {
  run_tag_ = run_tag;
  messages_.begin(run_tag);
  next_local_ = 0;
  local_position_ = {};
  pull_done_.assign(pull_done_.size(), false);
  first_pull_ = 0;
  is_pulling_ = false;
  groups_.begin();
  for (Handshake& source : sources_) {
    source.ready = {};
    source.done = {};
    source.done_posted = false;
    source.steps_left = 0;
    RESHARD_TRY(transport_->recv(source.peer, tag_of(run_tag, TagKind::kReady), nullptr, 0, &source.ready));
  }
  for (const GroupCopies& pull : program.pulls) ++source_of(pull.peer)->steps_left;
  for (Handshake& reader : readers_) {
    reader.ready = {};
    reader.done = {};
    RESHARD_TRY(transport_->send(reader.peer, tag_of(run_tag, TagKind::kReady), nullptr, 0, &reader.ready));
    RESHARD_TRY(transport_->recv(reader.peer, tag_of(run_tag, TagKind::kDone), nullptr, 0, &reader.done));
  }
  bool moved = false;
  return messages_.post_receives(&moved);
}

Flight::Handshake* Flight::source_of(std::int32_t peer) {
  const auto found = std::lower_bound(sources_.begin(), sources_.end(), peer,
                                      [](const Handshake& source, std::int32_t rank) { return source.peer < rank; });
  return &*found;
}

Status Flight::step(bool* moved) {
  *moved = transport_->progress();
  RESHARD_TRY(messages_.post_receives(moved));
  RESHARD_TRY(messages_.send(moved));
  RESHARD_TRY(messages_.unpack(moved));
  RESHARD_TRY(tell_sources(moved));
  step_pulls(moved);
  step_local(moved);
  return {};
}

/// Tells peers when this rank has read all that it reads of their memory.
Status Flight::tell_sources(bool* moved) {
  for (Handshake& source : sources_) {
    if (source.ready.failed()) {
      return {source.ready.error,
              fmt::format("waiting for the source of rank {} failed in the transport", source.peer)};
    }
    if (source.steps_left > 0 || source.done_posted) continue;
    RESHARD_TRY(transport_->send(source.peer, tag_of(run_tag_, TagKind::kDone), nullptr, 0, &source.done));
    source.done_posted = true;
    *moved = true;
  }
  return {};
}

/// The first pull of an open group whose source may be read.
void Flight::choose_pull() {
  while (first_pull_ < pull_done_.size() && pull_done_[first_pull_]) ++first_pull_;
  for (std::size_t i = first_pull_; i < pull_done_.size(); ++i) {
    if (!groups_.is_open(program.pulls[i].position)) return;
    if (pull_done_[i] || !source_of(program.pulls[i].peer)->ready.done()) continue;
    current_pull_ = i;
    pull_position_ = {};
    is_pulling_ = true;
    return;
  }
}

void Flight::step_pulls(bool* moved) {
  if (!is_pulling_) choose_pull();
  if (!is_pulling_) return;
  *moved = true;
  const GroupCopies& pull = program.pulls[current_pull_];
  if (!pull.copies.run_some(&pull_position_, kCopyBudgetBytes)) return;
  is_pulling_ = false;
  pull_done_[current_pull_] = true;
  --source_of(pull.peer)->steps_left;
  groups_.complete(pull.position);
}

void Flight::step_local(bool* moved) {
  if (next_local_ >= program.local.size() || !groups_.is_open(program.local[next_local_].position)) return;
  *moved = true;
  const GroupCopies& step = program.local[next_local_];
  if (!step.copies.run_some(&local_position_, kCopyBudgetBytes)) return;
  local_position_ = {};
  ++next_local_;
  groups_.complete(step.position);
}

bool Flight::is_complete() const {
  const auto finished = [](const Handshake& peer) { return peer.ready.done() && peer.done.done(); };
  return groups_.all_complete() && messages_.is_complete() && next_local_ == program.local.size() &&
         std::all_of(sources_.begin(), sources_.end(), finished) &&
         std::all_of(readers_.begin(), readers_.end(), finished);
}

std::string Flight::missing() const {
  std::set<std::int32_t> from;
  std::set<std::int32_t> to;
  messages_.add_pending_peers(&from, &to);
  for (const Handshake& source : sources_) {
    if (source.ready.pending()) from.insert(source.peer);
  }
  for (const Handshake& reader : readers_) {
    if (reader.done.pending()) to.insert(reader.peer);
  }
  std::string text = fmt::format("{} of {} windows received, {} of {} sent", messages_.num_received(),
                                 messages_.num_receives(), messages_.num_sent(), messages_.num_sends());
  if (!from.empty()) text += fmt::format("; nothing yet from ranks {}", fmt::join(from, ", "));
  if (!to.empty()) text += fmt::format("; ranks {} have not taken theirs", fmt::join(to, ", "));
  return text;
}

bool Flight::cancel() {
  bool all = messages_.cancel();
  for (std::vector<Handshake>* side : {&sources_, &readers_}) {
    for (Handshake& peer : *side) {
      for (Request* request : {&peer.ready, &peer.done}) {
        if (request->pending()) all = transport_->cancel(request) && all;
      }
    }
  }
  return all;
}

}  // namespace reshard
