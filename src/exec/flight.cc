// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/flight.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

namespace reshard {
namespace {

// Giving a run up takes at most Control::kAnnounceUs for telling the peers, Messenger::kCancelUs for taking messages
// back, and this long for copies that a device has begun: the longest batch takes milliseconds.
constexpr std::int64_t kDrainUs = 100'000;

// How long the last messages of a rank that has left may be under way without a sign of them.
constexpr auto kLastWords = std::chrono::milliseconds(200);

}  // namespace

Flight::Flight(BoundSchedule given, Wiring wiring, Messenger* messenger)
    : bound(std::move(given)),
      wiring_(std::move(wiring)),
      messenger_(messenger),
      groups_(bound.schedule.work_of_group, bound.schedule.num_open),
      confirmations_(bound.schedule, &groups_, wiring_.control),
      messages_(bound, &groups_, &confirmations_, wiring_.binding, messenger),
      pulls_(bound, wiring_.words, &groups_, &confirmations_, wiring_.control),
      conversions_(bound, &groups_) {
  const Control& control = *wiring_.control;
  bonds_.resize(control.peers().size());
  for (const std::int32_t rank : bound.schedule.pulled_by) bonds_[control.index_of(rank)].is_reader = true;
  for (std::vector<std::size_t>* peers : {&changed_, &lost_}) peers->reserve(bonds_.size());
  messenger->reserve(messages_.most_in_flight() + control.peers().size());
}

Status Flight::begin(std::int64_t run) {
  run_ = run;
  confirmations_.begin();
  messages_.begin(run);
  pulls_.begin(run);
  conversions_.begin();
  is_open_ = false;
  next_local_ = 0;
  is_copying_local_ = false;
  lost_.clear();
  quiet_since_.reset();
  groups_.begin();
  wiring_.control->begin(run);
  num_unread_ = 0;
  for (Bond& bond : bonds_) {
    bond.is_read = bond.is_lost = false;
    if (bond.is_reader) ++num_unread_;
  }
  bool moved = false;
  RESHARD_TRY(wiring_.control->receive(&moved));
  return open(&moved);
}

/// Begins with the caller's memory, once it may be touched. Scales of the sources come first: whoever reads a source
/// reads these, too. The word is set before readers are told that they may read:
/// what they read from then on must be this run's. Receives are posted at once, so that few messages find none.
Status Flight::open(bool* moved) {
  RESHARD_TRY(const bool may_touch, bound.copier->is_open());
  if (!may_touch) return {};
  RESHARD_TRY(is_open_, conversions_.prepare(moved));
  if (!is_open_) return {};
  *moved = true;
  if (wiring_.word != nullptr) RunWord(wiring_.word).set(run_);
  for (std::size_t peer = 0; peer < bonds_.size(); ++peer) {
    if (bonds_[peer].is_reader) wiring_.control->say(peer, Snapshot::kReady);
  }
  confirmations_.open();
  confirmations_.confirm();
  RESHARD_TRY(wiring_.control->send(moved));
  return messages_.post_receives(moved);
}

/// One turn. News of peers comes first, since it may allow what follows; what can be confirmed is, both before and
/// after messages have moved, so that peers wait no turn longer than they must; sends and receives are posted before
/// copies are made, so that links work while this rank copies.
Status Flight::step(bool* moved) {
  *moved = messenger_->progress();
  RESHARD_TRY(hear(moved));
  if (!is_open_) RESHARD_TRY(open(moved));
  if (is_open_) RESHARD_TRY(work(moved));
  if (*moved) quiet_since_.reset();
  return {};
}

/// Takes in what the peers have said.
Status Flight::hear(bool* moved) {
  RESHARD_TRY(wiring_.control->receive(moved));
  const std::size_t num_known = lost_.size();
  wiring_.control->take_changed(&changed_);
  for (const std::size_t peer : changed_) heed(peer);
  return check_losses(num_known);
}

Status Flight::work(bool* moved) {
  confirmations_.confirm();
  RESHARD_TRY(messages_.post_receives(moved));
  RESHARD_TRY(messages_.send(moved));
  RESHARD_TRY(messages_.unpack(moved));
  RESHARD_TRY(pulls_.step(moved));
  RESHARD_TRY(step_local(moved));
  RESHARD_TRY(conversions_.step(moved));
  confirmations_.confirm();
  return wiring_.control->send(moved);
}

/// The news that a rank has left goes another way than its messages, and may overtake them: this rank may be about to
/// get all that it needs. So they count only once nothing at all has come for a while. Most often the peer's own word
/// comes first, and at once (Snapshot::kLeft); it is lost where the peer's connection to this rank was too slow for it.
void Flight::heed_departures(std::span<const std::int32_t> departed) {
  for (; num_heeded_ < departed.size(); ++num_heeded_) {
    const std::int32_t rank = departed[num_heeded_];
    if (wiring_.control->has(rank)) parting_.push_back(wiring_.control->index_of(rank));
  }
  if (parting_.empty()) return;
  const auto now = std::chrono::steady_clock::now();
  if (!quiet_since_) quiet_since_ = now;
  if (now < *quiet_since_ + kLastWords) return;
  for (const std::size_t peer : parting_) wiring_.control->lose(peer);
  parting_.clear();
}

/// Something new may be known of the peer.
void Flight::heed(std::size_t peer) {
  confirmations_.adopt(peer);
  pulls_.heed();
  Bond& bond = bonds_[peer];
  if (bond.is_reader && !bond.is_read && wiring_.control->heard(peer).says(Snapshot::kDone)) {
    bond.is_read = true;
    --num_unread_;
  }
  const bool is_lost = wiring_.control->loss(peer) != Control::Loss::kNone;
  if (is_lost && !std::exchange(bond.is_lost, true)) lost_.push_back(peer);
}

/// Whether the peer has not read all that it reads of this rank's memory.
bool Flight::is_unread(std::size_t peer) const {
  return (bonds_[peer].is_reader && !bonds_[peer].is_read) || confirmations_.lends_to(peer);
}

/// Whether this rank's run still depends on a peer that takes no more part in it.
bool Flight::needs(std::size_t peer, Control::Loss loss) const {
  // One that has moved on said what it had read before it finished; if it has not, it gave the run up.
  if (confirmations_.awaits(peer) || pulls_.awaits(peer) || is_unread(peer)) return true;
  // One that has moved on took what was sent to it, or discards it: the sends to it end.
  return loss != Control::Loss::kMovedOn && confirmations_.owes(peer);
}

/// A loss counts from the step after the one that saw it: what the peer did before it left may be seen a little after
/// its leave. What a rank needs of a peer only becomes less, so one that is not needed is forgotten, unless it is heard
/// of again: a rank that has moved on may give up its later run, or leave.
Status Flight::check_losses(std::size_t num_known) {
  const Control& control = *wiring_.control;
  for (std::size_t i = 0; i < num_known; ++i) {
    const std::size_t peer = lost_[i];
    const Control::Loss loss = control.loss(peer);
    bonds_[peer].is_lost = false;
    if (!needs(peer, loss)) continue;
    return {RESHARD_ERR_ABANDONED,
            fmt::format("rank {} {}", control.peers()[peer],
                        loss == Control::Loss::kLeft ? "destroyed its binding" : "gave the run up")};
  }
  lost_.erase(lost_.begin(), lost_.begin() + static_cast<std::ptrdiff_t>(num_known));
  return {};
}

/// Copies within the rank, a piece per turn: they need nobody, so they fill the time while others are waited for.
Status Flight::step_local(bool* moved) {
  if (next_local_ >= bound.local.size()) return {};
  const std::int32_t position = bound.schedule.local[next_local_].position;
  if (!groups_.is_open(position)) return {};
  if (!std::exchange(is_copying_local_, true)) local_ = CopyJob(bound.local[next_local_]);
  RESHARD_TRY(bound.copier->advance(&local_, moved));
  if (!local_.is_done) return {};
  is_copying_local_ = false;
  ++next_local_;
  groups_.complete(position);
  return {};
}

/// Whether this rank may let go: its own groups are complete, everybody has read or received what this rank gives, and
/// the last words are sent. A rank that left earlier would take its memory, or its news, away from those behind it.
bool Flight::is_complete() const {
  return is_open_ && groups_.all_complete() && messages_.is_complete() && pulls_.is_complete() &&
         confirmations_.is_complete() && next_local_ == bound.local.size() && num_unread_ == 0 &&
         wiring_.control->is_flushed();
}

std::string Flight::missing() const {
  const std::vector<std::int32_t>& ranks = wiring_.control->peers();
  std::set<std::int32_t> from;
  std::set<std::int32_t> to;
  for (std::size_t peer = 0; peer < ranks.size(); ++peer) {
    if (confirmations_.awaits(peer) || pulls_.awaits(peer)) from.insert(ranks[peer]);
    if (confirmations_.owes(peer) || is_unread(peer)) to.insert(ranks[peer]);
  }
  std::string text = fmt::format("{} of {} windows received, {} of {} sent", messages_.num_received(),
                                 messages_.num_receives(), messages_.num_sent(), messages_.num_sends());
  if (!from.empty())
    text += fmt::format("; not everything has come, or is confirmed, from ranks {}", fmt::join(from, ", "));
  if (!to.empty()) text += fmt::format("; ranks {} have not taken theirs", fmt::join(to, ", "));
  return text;
}

/// In this order: the word first, then the peers, then the messages and what a device copies. Until these have ended
/// they may still write here, so the caller's memory is not given back before (is_idle()).
void Flight::abandon() {
  // First, so that nobody who still reads the source takes what it reads for the run's.
  if (wiring_.word != nullptr) RunWord(wiring_.word).set(0);
  wiring_.control->announce(Snapshot::kAbandoned, Deadline(Control::kAnnounceUs));
  std::vector<Request*> requests;
  messages_.add_pending(&requests);
  messenger_->cancel_all(requests, Deadline(Messenger::kCancelUs));
  bound.copier->drain(Deadline(kDrainUs));
  discard(run_);
}

}  // namespace reshard
