// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/core.h>

#include <cstring>
#include <optional>

#include "src/transport/rank_list.h"
#include "src/transport/tcp_star.h"

namespace reshard {
namespace {

// Every other rank as rank 0 sees it.
struct Member {
  enum class State { kAbsent, kJoined, kLeft, kFailed };
  State state = State::kAbsent;
  std::unique_ptr<Channel> channel;
  std::optional<Blob> contribution;  // to the current all-gather
  bool gave_up = false;              // on the current all-gather
};

class TcpRoot final : public Bootstrap {
 public:
  TcpRoot(Fd listener, std::uint64_t nonce, std::int32_t num_ranks)
      : listener_(std::move(listener)), nonce_(nonce), members_(static_cast<std::size_t>(num_ranks)) {}
  ~TcpRoot() override;

  std::int32_t rank() const override { return 0; }
  std::int32_t num_ranks() const override { return static_cast<std::int32_t>(members_.size()); }
  Result<std::vector<Blob>> allgather(const Blob& mine, const Deadline& deadline, const Progress& progress) override;
  Status health() override;

 private:
  void pump();
  void admit_strangers();
  void admit(std::unique_ptr<Channel> stranger);
  void read_member(std::int32_t rank);
  void lose_member(std::int32_t rank);
  Status judge(const Deadline& deadline) const;
  bool all_contributed() const;
  Status fail(Status status);
  Result<std::vector<Blob>> publish(const Deadline& deadline, const Progress& progress);
  void finish_collective();
  void broadcast(const Frame& frame);
  void wait(const Deadline& deadline, const Progress& progress);

  template <typename Predicate>
  std::vector<std::int32_t> ranks_where(const Predicate& predicate) const;

  Fd listener_;  // valid until the rendezvous is over
  const std::uint64_t nonce_;
  std::vector<Member> members_;                      // [0], this rank, has only a contribution
  std::vector<std::unique_ptr<Channel>> strangers_;  // connected, but did not say hello yet
  std::uint64_t sequence_ = 0;                       // of the current or next all-gather
  Status failure_;                                   // once set, nothing works any more
};

TcpRoot::~TcpRoot() {
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
    if (predicate(members_[static_cast<std::size_t>(rank)])) ranks.push_back(rank);
  }
  return ranks;
}

void TcpRoot::broadcast(const Frame& frame) {
  const EncodedFrame encoded = encode(frame);
  for (Member& member : members_) {
    if (member.channel && member.state == Member::State::kJoined) member.channel->send(encoded);
  }
}

void TcpRoot::pump() {
  for (std::int32_t rank = 1; rank < num_ranks(); ++rank) {
    if (members_[static_cast<std::size_t>(rank)].channel) read_member(rank);
  }
  if (listener_.valid()) admit_strangers();
}

void TcpRoot::admit_strangers() {
  for (Fd fd = accept_from(listener_); fd.valid(); fd = accept_from(listener_)) {
    strangers_.push_back(std::make_unique<Channel>(std::move(fd)));
  }
  for (auto& stranger : strangers_) {
    stranger->pump();
    if (stranger->closed()) {
      stranger.reset();
    } else if (stranger->front() != nullptr) {
      admit(std::move(stranger));
    }
  }
  std::erase(strangers_, nullptr);
}

// Gives a stranger that proves to belong here its rank; drops any other.
void TcpRoot::admit(std::unique_ptr<Channel> stranger) {
  const Frame& frame = *stranger->front();
  Hello hello;
  if (frame.type != FrameType::kHello || frame.payload.size() != sizeof(hello)) return;
  std::memcpy(&hello, frame.payload.data(), sizeof(hello));
  if (hello.nonce != nonce_ || hello.rank < 1 || hello.rank >= hello.num_ranks) return;
  if (hello.num_ranks != num_ranks()) {
    failure_ = {RESHARD_ERR_INVALID_ARGUMENT, fmt::format("rank {} was told that there are {} ranks, rank 0 that there "
                                                          "are {}; give every rank the same number",
                                                          hello.rank, hello.num_ranks, num_ranks())};
    stranger->send(encode(failure_frame(kEveryCollective, failure_)));
    return;
  }
  Member& member = members_[static_cast<std::size_t>(hello.rank)];
  if (member.state != Member::State::kAbsent) {
    const Status taken =
        invalid_argument(fmt::format("rank {} has joined already; give each process a rank of its own", hello.rank));
    stranger->send(encode(failure_frame(kEveryCollective, taken)));
    return;
  }
  stranger->pop();
  stranger->trust();
  stranger->send(encode({FrameType::kWelcome, sequence_, {}}));
  member = {Member::State::kJoined, std::move(stranger), std::nullopt, false};
}

void TcpRoot::read_member(std::int32_t rank) {
  Member& member = members_[static_cast<std::size_t>(rank)];
  member.channel->pump();
  // What belongs to a later all-gather stays in the channel until this rank comes to it.
  for (const Frame* frame = member.channel->front(); frame != nullptr; frame = member.channel->front()) {
    const bool is_current = frame->sequence == sequence_;
    if (frame->type == FrameType::kGoodbye) {
      member.state = Member::State::kLeft;
    } else if (frame->sequence > sequence_) {
      return;
    } else if (frame->type == FrameType::kContribution && is_current) {
      member.contribution = frame->payload;
    } else if (frame->type == FrameType::kGiveUp && is_current) {
      member.gave_up = true;
    }
    member.channel->pop();
  }
  if (member.channel->closed()) lose_member(rank);
}

void TcpRoot::lose_member(std::int32_t rank) {
  Member& member = members_[static_cast<std::size_t>(rank)];
  member.channel.reset();
  if (member.state == Member::State::kLeft) return;
  if (listener_.valid()) {  // it may have given up, and may come again
    member = {};
    return;
  }
  member.state = Member::State::kFailed;
  if (!failure_.ok()) return;
  failure_ = {RESHARD_ERR_PEER_FAILED, fmt::format("rank {} is gone: its process closed the connection", rank)};
  broadcast(failure_frame(kEveryCollective, failure_));
}

Status TcpRoot::health() {
  pump();
  return failure_;
}

bool TcpRoot::all_contributed() const {
  return ranks_where([](const Member& member) { return !member.contribution; }).empty();
}

// Why the current all-gather cannot succeed; OK while it can.
Status TcpRoot::judge(const Deadline& deadline) const {
  if (!failure_.ok()) return failure_;
  const auto left =
      ranks_where([](const Member& member) { return member.state == Member::State::kLeft && !member.contribution; });
  if (!left.empty()) {
    return {RESHARD_ERR_PEER_FAILED, fmt::format("all-gather: {} left the communicator", list_ranks(left))};
  }
  const auto gave_up = ranks_where([](const Member& member) { return member.gave_up; });
  const auto missing = ranks_where([](const Member& member) { return !member.contribution; });
  if (gave_up.empty() && (missing.empty() || !deadline.expired())) return {};
  const std::string who = (missing.empty() ? "rank 0" : list_ranks(missing)) + " did not come";
  if (!gave_up.empty()) {
    return {RESHARD_ERR_TIMEOUT, fmt::format("all-gather: {} before the deadline of {}", who, list_ranks(gave_up))};
  }
  return {RESHARD_ERR_TIMEOUT, fmt::format("all-gather: {} within {} us", who, deadline.timeout_us())};
}

void TcpRoot::finish_collective() {
  ++sequence_;
  for (Member& member : members_) {
    member.contribution.reset();
    member.gave_up = false;
  }
}

Status TcpRoot::fail(Status status) {
  broadcast(failure_frame(sequence_, status));
  finish_collective();
  return status;
}

Result<std::vector<Blob>> TcpRoot::publish(const Deadline& deadline, const Progress& progress) {
  listener_.reset();  // before anyone can think of a next rendezvous at the same place
  strangers_.clear();
  std::vector<Blob> blobs;
  for (Member& member : members_) blobs.push_back(std::move(*member.contribution));
  broadcast({FrameType::kResult, sequence_, pack_blobs(blobs)});
  finish_collective();
  const auto has_output = [](const Member& member) { return member.channel && member.channel->has_output(); };
  while (!ranks_where(has_output).empty()) {
    if (!failure_.ok()) return failure_;
    if (deadline.expired()) {
      return Status(RESHARD_ERR_TIMEOUT, fmt::format("all-gather: {} did not take the result within {} us",
                                                     list_ranks(ranks_where(has_output)), deadline.timeout_us()));
    }
    wait(deadline, progress);
    pump();
  }
  return blobs;
}

Result<std::vector<Blob>> TcpRoot::allgather(const Blob& mine, const Deadline& deadline, const Progress& progress) {
  members_[0].contribution = mine;
  while (true) {
    pump();
    if (Status status = judge(deadline); !status.ok()) return fail(std::move(status));
    if (all_contributed()) return publish(deadline, progress);
    wait(deadline, progress);
  }
}

void TcpRoot::wait(const Deadline& deadline, const Progress& progress) {
  const std::int64_t timeout_ms = sleep_ms(progress, deadline);
  std::vector<pollfd> sockets;
  if (listener_.valid()) sockets.push_back({listener_.get(), POLLIN, 0});
  for (const auto& stranger : strangers_) sockets.push_back(stranger->poll_entry());
  for (const Member& member : members_) {
    if (member.channel) sockets.push_back(member.channel->poll_entry());
  }
  wait_for_sockets(&sockets, timeout_ms);
}

}  // namespace

std::unique_ptr<Bootstrap> create_tcp_root(Fd listener, std::uint64_t nonce, std::int32_t num_ranks) {
  return std::make_unique<TcpRoot>(std::move(listener), nonce, num_ranks);
}

}  // namespace reshard
