// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The side of every rank but 0: finds rank 0, goes through the handshake, and then has one connection, over which all
// that it learns of other ranks comes. It has no thread of its own: it reads when it is called, and what rank 0 sends
// meanwhile waits in the kernel.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>

#include "src/transport/tcp_handshake.h"
#include "src/transport/tcp_star.h"

namespace reshard {
namespace {

// After its own deadline a rank waits this much longer for rank 0 to tell which ranks were missing.
constexpr std::int64_t kGraceUs = 200'000;

// The longest answer of rank 0 that refuses a rank.
constexpr std::size_t kMostFailureBytes = 4096;

class TcpLeaf final : public Bootstrap {
 public:
  TcpLeaf(std::unique_ptr<Channel> channel, std::int32_t rank, std::int32_t num_ranks)
      : channel_(std::move(channel)), rank_(rank), num_ranks_(num_ranks) {}
  ~TcpLeaf() override {
    channel_->send(encode({FrameType::kGoodbye, sequence_, {}}));
    drain({channel_.get()});
  }

  std::int32_t rank() const override { return rank_; }
  std::int32_t num_ranks() const override { return num_ranks_; }
  Result<std::vector<Blob>> allgather(const Blob& mine, const Deadline& deadline, const Progress& progress) override;
  Status health() override;
  std::span<const std::int32_t> departed() const override { return departed_; }

 private:
  using Outcome = std::optional<Result<std::vector<Blob>>>;
  Outcome read(std::uint64_t sequence);
  Outcome await(std::uint64_t sequence, const Deadline& deadline, const Progress& progress);

  std::unique_ptr<Channel> channel_;
  const std::int32_t rank_;
  const std::int32_t num_ranks_;
  std::uint64_t sequence_ = 0;  // of the next all-gather
  bool root_left_ = false;
  std::vector<std::int32_t> departed_;  // as rank 0 tells, and rank 0 itself
  Status failure_;                      // once set, nothing works any more
};

// Takes in what rank 0 sent; the outcome of all-gather `sequence` when it is there. Older ones are stale: this rank had
// given up on them.
TcpLeaf::Outcome TcpLeaf::read(std::uint64_t sequence) {
  channel_->pump();
  for (const Frame* frame = channel_->front(); frame != nullptr; frame = channel_->front()) {
    Outcome outcome;
    if (frame->type == FrameType::kResult && frame->sequence == sequence) {
      outcome = unpack_blobs(frame->payload, num_ranks_);
    } else if (frame->type == FrameType::kFailure && frame->sequence == kEveryCollective) {
      failure_ = decode_failure(frame->payload);
    } else if (frame->type == FrameType::kFailure && frame->sequence == sequence) {
      outcome = decode_failure(frame->payload);
    } else if (frame->type == FrameType::kFailure && frame->sequence == sequence_) {
      return std::nullopt;  // rank 0 gave up on an all-gather that this rank has yet to begin
    } else if (frame->type == FrameType::kDeparture) {
      const std::vector<std::int32_t> ranks = decode_ranks(frame->payload, num_ranks_);
      departed_.insert(departed_.end(), ranks.begin(), ranks.end());
    } else if (frame->type == FrameType::kGoodbye && !root_left_) {
      root_left_ = true;
      departed_.push_back(0);
    }
    channel_->pop();
    if (outcome) return outcome;
  }
  if (channel_->closed() && !root_left_ && failure_.ok()) {
    failure_ = {RESHARD_ERR_PEER_FAILED, "rank 0 is gone: its process closed the connection"};
  }
  return std::nullopt;
}

Status TcpLeaf::health() {
  // No all-gather has this number, so that only news are taken in.
  read(kEveryCollective);
  return failure_;
}

TcpLeaf::Outcome TcpLeaf::await(std::uint64_t sequence, const Deadline& deadline, const Progress& progress) {
  while (true) {
    if (Outcome outcome = read(sequence)) return outcome;
    if (!failure_.ok()) return failure_;
    if (root_left_) return Status(RESHARD_ERR_PEER_FAILED, "all-gather: rank 0 left the communicator");
    if (deadline.expired()) return std::nullopt;
    const std::int64_t timeout_ms = sleep_ms(progress, deadline);
    std::vector<pollfd> sockets{channel_->poll_entry()};
    wait_for_sockets(&sockets, timeout_ms);
  }
}

Result<std::vector<Blob>> TcpLeaf::allgather(const Blob& mine, const Deadline& deadline, const Progress& progress) {
  const std::uint64_t sequence = sequence_++;
  if (Status mistake = check_contribution(mine.size()); !mistake.ok()) {
    channel_->send(encode({FrameType::kGiveUp, sequence, encode_failure(mistake)}));  // fails it for all
    return mistake;
  }
  channel_->send(encode({FrameType::kContribution, sequence, mine}));
  if (Outcome outcome = await(sequence, deadline, progress)) return std::move(*outcome);
  channel_->send(encode({FrameType::kGiveUp, sequence, {}}));
  // Rank 0 fails it for all at once, if it is waiting in the same all-gather; else it finds the give-up when it comes.
  if (Outcome outcome = await(sequence, Deadline(kGraceUs), progress)) return std::move(*outcome);
  return Status(RESHARD_ERR_TIMEOUT,
                fmt::format("all-gather: rank 0 did not answer within {} us", deadline.timeout_us()));
}

// How long a rank tries one place and another.
struct Trial {
  Deadline deadline;
  Patience* patience;
};

// The next frame of rank 0, or null when it does not come in time.
const Frame* next_frame(Channel* channel, const Hello& hello, const Trial& trial) {
  while (true) {
    channel->pump();
    if (const Frame* frame = channel->front()) return frame;
    if (channel->closed() || trial.deadline.expired()) return nullptr;
    trial.patience->remind(
        [&] { return fmt::format("rank {} of {} waits for rank 0 to answer", hello.rank, hello.num_ranks); });
    std::vector<pollfd> sockets{channel->poll_entry()};
    wait_for_sockets(&sockets, sleep_ms({}, trial.deadline));
  }
}

// Goes through the handshake. Empty: whoever listens there is not rank 0 of this job, and nothing he says counts.
std::optional<Status> greet(Channel* channel, const Hello& hello, const Secret& secret, const Trial& trial) {
  channel->send(encode(hello_frame(hello)));
  const Frame* frame = next_frame(channel, hello, trial);
  const auto challenge = frame == nullptr ? std::nullopt : read_challenge(*frame);
  if (!challenge || challenge->proof != proof_of(Prover::kRankZero, secret, hello, challenge->nonce)) {
    return std::nullopt;
  }
  channel->pop();
  // Rank 0 has proved itself: from here on its word is final, be it a refusal.
  channel->trust(kMostFailureBytes);
  channel->send(encode(proof_frame(proof_of(Prover::kOtherRank, secret, hello, challenge->nonce))));
  frame = next_frame(channel, hello, trial);
  if (frame == nullptr) return std::nullopt;  // it has no time for us just now
  if (frame->type == FrameType::kFailure) return decode_failure(frame->payload);
  if (frame->type != FrameType::kWelcome) return std::nullopt;
  channel->pop();
  // The result of an all-gather to which every rank gave the most. A bound and no reservation.
  channel->trust(static_cast<std::size_t>(hello.num_ranks) * (kMostContributedBytes + sizeof(std::uint64_t)));
  return Status();
}

// A connection on which rank 0 has said welcome. RESHARD_ERR_TRANSPORT: it is not there.
//
// An attempt that fails is tried again elsewhere or later, unless rank 0 itself has refused: no repetition changes
// that.
struct Attempt {
  std::unique_ptr<Channel> channel;
  Status status;          // why there is none
  bool is_final = false;  // rank 0 itself said so
};

Attempt try_place(const std::string& host, std::uint16_t port, Hello hello, const Secret& secret, const Trial& trial) {
  auto fd = connect_to(host, port, trial.deadline);
  if (!fd.ok()) return {nullptr, fd.take_status(), false};
  auto nonce = random_nonce();
  if (!nonce.ok()) return {nullptr, nonce.take_status(), true};
  // Drawn for each attempt: a stranger that listened to one could answer the next with what rank 0 had said.
  hello.nonce = *nonce;
  auto channel = std::make_unique<Channel>(fd.take(), kMostHandshakeBytes);
  const auto answer = greet(channel.get(), hello, secret, trial);
  if (!answer) {
    return {nullptr, {RESHARD_ERR_TRANSPORT, fmt::format("{} port {} does not know this job", host, port)}, false};
  }
  if (!answer->ok()) return {nullptr, *answer, true};
  return {std::move(channel), {}, false};
}

}  // namespace

Result<std::unique_ptr<Bootstrap>> create_tcp_leaf(const Rendezvous& rendezvous, std::int32_t rank,
                                                   std::int32_t num_ranks, const Deadline& deadline,
                                                   const Notice& notice) {
  // Rank 0 may not listen yet, or turn callers away because hundreds come at once: then they come again later and
  // later, and not all together, or it would have its hands full of them for ever.
  constexpr std::int64_t kFirstPauseUs = 10'000;
  constexpr std::int64_t kLongestPauseUs = 320'000;
  constexpr std::int64_t kMostPerPlaceUs = 2'000'000;  // where there are several: somebody else may listen there
  const bool is_only_place = rendezvous.num_ports == 1 && rendezvous.hosts.size() == 1;
  Patience patience(notice);
  Attempt attempt;
  std::int64_t pause_us = kFirstPauseUs;
  // Round after round over all places, because rank 0 may start later than its peers, and on a port that a stranger had
  // before.
  while (!deadline.expired()) {
    for (const std::string& host : rendezvous.hosts) {
      for (std::uint16_t i = 0; i < rendezvous.num_ports && !deadline.expired(); ++i) {
        const auto port = static_cast<std::uint16_t>(rendezvous.port + i);
        const std::int64_t left_us = deadline.remaining_us();
        const Deadline until(is_only_place ? left_us : std::min(left_us, kMostPerPlaceUs));
        attempt = try_place(host, port, {0, rank, num_ranks}, rendezvous.secret, {until, &patience});
        if (attempt.channel) {
          return std::unique_ptr<Bootstrap>(std::make_unique<TcpLeaf>(std::move(attempt.channel), rank, num_ranks));
        }
        if (attempt.is_final) return std::move(attempt.status);
        patience.remind([&] {
          return fmt::format("rank {} of {} waits for rank 0: {}", rank, num_ranks, attempt.status.message());
        });
      }
    }
    const std::int64_t of_this_rank_us = pause_us + pause_us * (rank % 16) / 16;
    std::this_thread::sleep_for(std::chrono::microseconds(std::min(of_this_rank_us, deadline.remaining_us())));
    pause_us = std::min(2 * pause_us, kLongestPauseUs);
  }
  // Nothing was tried when the deadline had passed before.
  const std::string last =
      attempt.status.ok() ? "no attempt was made" : "the last attempt: " + attempt.status.message();
  return Status(RESHARD_ERR_TIMEOUT,
                fmt::format("rank {} did not find rank 0 within {} us; {}", rank, deadline.timeout_us(), last));
}

}  // namespace reshard
