// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Rank 0's side of the star. One all-gather after the other is open, numbered by sequence_, which every leaf counts
// too: so a frame that comes late, after this one was given up, or early, for the next one, is told apart by its number
// alone. An all-gather ends in publish() or in fail(), and in both cases for all ranks; then sequence_ goes up.
//
// A tree of connections would ask less of rank 0, and would leave ranks without news when one in its middle dies.
#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <optional>

#include "src/base/indexed_vector.h"
#include "src/transport/rank_list.h"
#include "src/transport/tcp_lobby.h"
#include "src/transport/tcp_star.h"
#include "src/transport/watch.h"

namespace reshard {
namespace {

// Every other rank as rank 0 sees it.
//
// kAbsent -> kJoined by the handshake; -> kLeft by a goodbye, or -> kFailed by a connection that closes without one.
// Before the rendezvous is over a lost one is kAbsent again, for a process may be started anew or try a second time.
struct Member {
  enum class State { kAbsent, kJoined, kLeft, kFailed };
  State state = State::kAbsent;
  std::unique_ptr<Channel> channel;
  bool watches_output = false;       // the poller tells when the channel can send on
  std::optional<Blob> contribution;  // to the current all-gather
  bool gave_up = false;              // on the current all-gather
  bool is_ahead = false;             // its next frame belongs to a later all-gather
};

// Whatever happens on a connection costs rank 0 work on that connection only, so that it stands thousands of ranks: the
// poller names those with news, and counters answer what would need a look at all members.
//
// The leaves learn of each other only through rank 0, which may be busy with something else for minutes. So from the
// rendezvous on a thread of its own, the watch, takes in what comes while nobody calls, and passes on who is lost. Both
// threads hold mutex_ in whatever they do; an all-gather holds it to its end, as it serves all connections itself.
class TcpRoot final : public Bootstrap {
 public:
  TcpRoot(Fd listener, const Secret& secret, std::int32_t num_ranks, Poller poller, const Notice& notice)
      : poller_(std::move(poller)),
        lobby_(std::in_place, std::move(listener), secret, &poller_),
        patience_(notice),
        members_(static_cast<std::size_t>(num_ranks)) {}
  ~TcpRoot() override;

  std::int32_t rank() const override { return 0; }
  std::int32_t num_ranks() const override { return static_cast<std::int32_t>(members_.size()); }
  Result<std::vector<Blob>> allgather(const Blob& mine, const Deadline& deadline, const Progress& progress) override;
  Status health() override;
  std::span<const std::int32_t> departed() const override { return departed_; }

 private:
  Member& member(std::int32_t rank) { return members_[RankId(rank)]; }
  const Member& member(std::int32_t rank) const { return members_[RankId(rank)]; }

  void pump(std::int64_t timeout_ms);
  Result<std::vector<Blob>> gather(const Blob& mine, const Deadline& deadline, const Progress& progress);
  Status start_watch();
  int serve_watch();
  void take_departed();
  void serve_lobby(std::uint64_t key);
  void admit(TcpLobby::Newcomer newcomer);
  void read_member(std::int32_t rank);
  void take(Member* from, const Frame& frame);
  void lose_member(std::int32_t rank);
  void tell_departures();
  Status judge(const Deadline& deadline) const;
  Status fail(Status status);
  Result<std::vector<Blob>> publish(const Deadline& deadline, const Progress& progress);
  void finish_collective();
  void send_to(std::int32_t rank, const EncodedFrame& frame);
  void broadcast(const Frame& frame);
  void watch_output(std::int32_t rank);

  template <typename Predicate>
  std::vector<std::int32_t> ranks_where(const Predicate& predicate) const;
  std::vector<std::int32_t> missing_ranks() const {
    return ranks_where([](const Member& member) { return !member.contribution; });
  }

  std::mutex mutex_;                       // for all that follows, but for departed_
  Poller poller_;                          // keys: the rank of a member; from TcpLobby::kFirstKey on the lobby's
  std::optional<TcpLobby> lobby_;          // until the rendezvous is over
  Patience patience_;                      // with it
  IndexedVector<RankId, Member> members_;  // [0], this rank, has only a contribution
  std::uint64_t sequence_ = 0;             // of the current or next all-gather
  Status failure_;                         // once set, nothing works any more

  // Of the current all-gather.
  std::int32_t num_contributed_ = 0;  // without this rank
  std::int32_t num_gave_up_ = 0;
  Status refusal_;  // of a rank that cannot take part

  std::vector<std::int32_t> ahead_;  // members that are: no event will name them when their frame is due
  std::vector<std::int32_t> left_;   // in this order
  std::size_t num_told_ = 0;         // of left_: the others know of these
  std::chrono::steady_clock::time_point told_;

  std::vector<std::int32_t> departed_;  // what the owner's thread has seen of left_
  std::unique_ptr<Watch> watch_;        // from the rendezvous on
};

TcpRoot::~TcpRoot() {
  // First, and without the lock: the watch may be inside pump().
  watch_.reset();
  broadcast({FrameType::kGoodbye, sequence_, {}});
  std::vector<Channel*> channels;
  for (const Member& member : members_) {
    if (member.channel) channels.push_back(member.channel.get());
  }
  drain(channels);
}

template <typename Predicate>
std::vector<std::int32_t> TcpRoot::ranks_where(const Predicate& predicate) const {
  std::vector<std::int32_t> ranks;
  for (std::int32_t rank = 1; rank < num_ranks(); ++rank) {
    if (predicate(member(rank))) ranks.push_back(rank);
  }
  return ranks;
}

// The poller names a channel as writable only while it has something to write.
void TcpRoot::watch_output(std::int32_t rank) {
  Member& m = member(rank);
  if (m.watches_output == m.channel->has_output()) return;
  m.watches_output = m.channel->has_output();
  poller_.watch_output(m.channel->fd(), static_cast<std::uint64_t>(rank), m.watches_output);
}

// To those who have left or failed nothing is sent, and that is no error: judge() says what it means for the
// all-gather.
void TcpRoot::send_to(std::int32_t rank, const EncodedFrame& frame) {
  Member& m = member(rank);
  if (!m.channel || m.state != Member::State::kJoined) return;
  m.channel->send(frame);
  watch_output(rank);
}

void TcpRoot::broadcast(const Frame& frame) {
  // Encoded once and shared by all channels: a result of thousands of ranks is large.
  const EncodedFrame encoded = encode(frame);
  for (std::int32_t rank = 1; rank < num_ranks(); ++rank) send_to(rank, encoded);
}

// Takes in whatever has arrived, or what does within the time.
void TcpRoot::pump(std::int64_t timeout_ms) {
  // An event may name a member or a stranger that an earlier one of the same batch has removed; so both look it up.
  for (const epoll_event& event : poller_.wait(timeout_ms)) {
    if (event.data.u64 >= TcpLobby::kFirstKey) {
      serve_lobby(event.data.u64);
    } else {
      read_member(static_cast<std::int32_t>(event.data.u64));
    }
  }
  if (lobby_) lobby_->expire();
  tell_departures();
}

void TcpRoot::serve_lobby(std::uint64_t key) {
  if (!lobby_) return;
  for (TcpLobby::Newcomer& newcomer : lobby_->serve(key)) admit(std::move(newcomer));
  if (!lobby_->is_short_of_fds() || !failure_.ok()) return;
  const auto joined = ranks_where([](const Member& member) { return member.state == Member::State::kJoined; });
  failure_ = {RESHARD_ERR_TRANSPORT,
              fmt::format("rank 0 has no file descriptor left after {} of {} other ranks have joined: it needs one for "
                          "each; raise its limit (ulimit -n)",
                          joined.size(), num_ranks() - 1)};
  broadcast({FrameType::kFailure, kEveryCollective, encode_failure(failure_)});
}

// Gives somebody who has proved to belong here his rank, unless he was told another job than this one.
void TcpRoot::admit(TcpLobby::Newcomer newcomer) {
  const Hello& hello = newcomer.hello;
  if (hello.num_ranks != num_ranks()) {
    failure_ =
        invalid_argument(fmt::format("rank {} was told that there are {} ranks, rank 0 that there are {}; give "
                                     "every rank the same number",
                                     hello.rank, hello.num_ranks, num_ranks()));
    newcomer.channel->send(encode({FrameType::kFailure, kEveryCollective, encode_failure(failure_)}));
    return;
  }
  Member& place = member(hello.rank);
  if (place.state != Member::State::kAbsent) {
    const Status taken =
        invalid_argument(fmt::format("rank {} has joined already; give each process a rank of its own", hello.rank));
    newcomer.channel->send(encode({FrameType::kFailure, kEveryCollective, encode_failure(taken)}));
    return;
  }
  if (!poller_.add(newcomer.channel->fd(), static_cast<std::uint64_t>(hello.rank))) return;  // it will try again
  newcomer.channel->trust(kMostContributedBytes);
  place.state = Member::State::kJoined;
  place.channel = std::move(newcomer.channel);
  send_to(hello.rank, encode({FrameType::kWelcome, sequence_, {}}));
}

void TcpRoot::read_member(std::int32_t rank) {
  Member& m = member(rank);
  if (!m.channel) return;
  m.channel->pump();
  watch_output(rank);
  // Invariant: what lies behind a frame that is ahead waits with it, so that frames of a rank are taken in their order.
  while (const Frame* frame = m.channel->front()) {
    if (frame->type != FrameType::kGoodbye && frame->sequence > sequence_) {
      // It stays in the channel until this rank comes to that all-gather.
      if (!std::exchange(m.is_ahead, true)) ahead_.push_back(rank);
      if (m.channel->closed()) poller_.remove(m.channel->fd());  // which has no more news, and says so for ever
      return;
    }
    take(&m, *frame);
    m.channel->pop();
  }
  if (m.channel->closed()) lose_member(rank);
}

// Frames of earlier all-gathers are dropped here without a word: a leaf's give-up may cross the result on its way, and
// a contribution the failure. Second ones count for nothing, so that the counters agree with the members.
void TcpRoot::take(Member* from, const Frame& frame) {
  const bool is_current = frame.sequence == sequence_;
  if (frame.type == FrameType::kGoodbye) {
    from->state = Member::State::kLeft;
  } else if (frame.type == FrameType::kContribution && is_current && !from->contribution) {
    from->contribution = frame.payload;
    ++num_contributed_;
  } else if (frame.type == FrameType::kGiveUp && is_current && !from->gave_up) {
    from->gave_up = true;
    ++num_gave_up_;
    if (!frame.payload.empty()) refusal_ = decode_failure(frame.payload);
  }
}

void TcpRoot::lose_member(std::int32_t rank) {
  Member& m = member(rank);
  poller_.remove(m.channel->fd());
  m.channel.reset();
  m.watches_output = false;
  if (m.state == Member::State::kLeft) {
    left_.push_back(rank);
    return;
  }
  if (lobby_) {  // it may have given up, and may come again
    if (m.contribution) --num_contributed_;
    if (m.gave_up) --num_gave_up_;
    m = {};
    return;
  }
  m.state = Member::State::kFailed;
  // The first loss is the cause that is told; further ones are most often its consequences.
  if (!failure_.ok()) return;
  // For good: what a rank holds cannot be had any more, so that no later all-gather makes sense.
  failure_ = {RESHARD_ERR_PEER_FAILED, fmt::format("rank {} is gone: its process closed the connection", rank)};
  broadcast({FrameType::kFailure, kEveryCollective, encode_failure(failure_)});
}

// Many at a time, because at the end of a job all leave, and each is told of all others.
constexpr auto kTellPause = std::chrono::milliseconds(10);

void TcpRoot::tell_departures() {
  if (num_told_ == left_.size()) return;
  const auto now = std::chrono::steady_clock::now();
  if (now < told_ + kTellPause) return;
  told_ = now;
  // Also the list that each leaf builds only grows, so it is told the new ones.
  const auto first = left_.begin() + static_cast<std::ptrdiff_t>(std::exchange(num_told_, left_.size()));
  broadcast({FrameType::kDeparture, sequence_, encode_ranks({first, left_.end()})});
}

void TcpRoot::take_departed() {
  departed_.insert(departed_.end(), left_.begin() + static_cast<std::ptrdiff_t>(departed_.size()), left_.end());
}

Status TcpRoot::start_watch() {
  // A rank on its own has nobody to tell.
  if (num_ranks() == 1 || watch_ != nullptr) return {};
  RESHARD_TRY(watch_, Watch::start(poller_.fd(), [this] { return serve_watch(); }));
  return {};
}

int TcpRoot::serve_watch() {
  const std::lock_guard lock(mutex_);
  pump(0);
  // Some are held back by the pause, and no event will come for them.
  return num_told_ < left_.size() ? static_cast<int>(kTellPause.count()) : -1;
}

Status TcpRoot::health() {
  const std::lock_guard lock(mutex_);
  pump(0);
  take_departed();
  return failure_;
}

// Why the current all-gather cannot succeed; OK while it can. From the gravest reason to the mildest, so that a rank
// that died is not reported as one that is late.
Status TcpRoot::judge(const Deadline& deadline) const {
  if (!failure_.ok()) return failure_;
  if (!refusal_.ok()) return refusal_;
  if (!left_.empty()) {
    const auto left =
        ranks_where([](const Member& member) { return member.state == Member::State::kLeft && !member.contribution; });
    if (!left.empty()) {
      return {RESHARD_ERR_PEER_FAILED, fmt::format("all-gather: {} left the communicator", list_ranks(left))};
    }
  }
  const bool is_complete = num_contributed_ == num_ranks() - 1;
  if (num_gave_up_ == 0 && (is_complete || !deadline.expired())) return {};
  // All have come but rank 0 itself, which was late for a leaf that had less time.
  const std::string who = (is_complete ? "rank 0" : list_ranks(missing_ranks())) + " did not come";
  if (num_gave_up_ > 0) {
    const auto gave_up = ranks_where([](const Member& member) { return member.gave_up; });
    return {RESHARD_ERR_TIMEOUT, fmt::format("all-gather: {} before the deadline of {}", who, list_ranks(gave_up))};
  }
  return {RESHARD_ERR_TIMEOUT, fmt::format("all-gather: {} within {} us", who, deadline.timeout_us())};
}

void TcpRoot::finish_collective() {
  // All of the old one is cleared before the frames that were held back are read: they count for the new one.
  ++sequence_;
  num_contributed_ = num_gave_up_ = 0;
  refusal_ = {};
  for (Member& member : members_) {
    member.contribution.reset();
    member.gave_up = false;
  }
  // What these sent early may be due now.
  for (const std::int32_t rank : std::exchange(ahead_, {})) {
    member(rank).is_ahead = false;
    read_member(rank);
  }
}

Status TcpRoot::fail(Status status) {
  broadcast({FrameType::kFailure, sequence_, encode_failure(status)});
  finish_collective();
  return status;
}

Result<std::vector<Blob>> TcpRoot::publish(const Deadline& deadline, const Progress& progress) {
  lobby_.reset();  // before anyone can think of a next rendezvous at the same place
  if (Status status = start_watch(); !status.ok()) return fail(std::move(status));
  std::vector<Blob> blobs;
  for (Member& member : members_) blobs.push_back(std::move(*member.contribution));
  broadcast({FrameType::kResult, sequence_, pack_blobs(blobs)});
  finish_collective();
  // The call ends when the kernel has the last byte, within the caller's deadline: a leaf that does not read is named
  // here and not found out by the next call.
  const auto has_output = [](const Member& member) { return member.channel && member.channel->has_output(); };
  while (std::any_of(members_.begin(), members_.end(), has_output)) {
    if (!failure_.ok()) return failure_;
    if (deadline.expired()) {
      return Status(RESHARD_ERR_TIMEOUT, fmt::format("all-gather: {} did not take the result within {} us",
                                                     list_ranks(ranks_where(has_output)), deadline.timeout_us()));
    }
    pump(sleep_ms(progress, deadline));
  }
  return blobs;
}

Result<std::vector<Blob>> TcpRoot::allgather(const Blob& mine, const Deadline& deadline, const Progress& progress) {
  const std::lock_guard lock(mutex_);
  auto gathered = gather(mine, deadline, progress);
  take_departed();
  return gathered;
}

Result<std::vector<Blob>> TcpRoot::gather(const Blob& mine, const Deadline& deadline, const Progress& progress) {
  // Kept until the others' state has been looked at: a failure of a peer is the older news.
  Status mistake = check_contribution(mine.size());
  members_[RankId(0)].contribution = mistake.ok() ? mine : Blob();
  pump(0);
  while (true) {
    if (Status status = judge(deadline); !status.ok()) return fail(std::move(status));
    if (!mistake.ok()) return fail(std::move(mistake));
    if (num_contributed_ == num_ranks() - 1) return publish(deadline, progress);
    if (lobby_) {
      patience_.remind(
          [&] { return fmt::format("rank 0 of {} waits for {}", num_ranks(), list_ranks(missing_ranks())); });
    }
    pump(sleep_ms(progress, deadline));
  }
}

}  // namespace

Result<std::unique_ptr<Bootstrap>> create_tcp_root(Fd listener, const Secret& secret, std::int32_t num_ranks,
                                                   const Notice& notice) {
  RESHARD_TRY(Poller poller, Poller::create());
  return std::unique_ptr<Bootstrap>(
      std::make_unique<TcpRoot>(std::move(listener), secret, num_ranks, std::move(poller), notice));
}

}  // namespace reshard
