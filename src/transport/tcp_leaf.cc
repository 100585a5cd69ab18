// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <thread>

#include "src/transport/tcp_star.h"

namespace reshard {
namespace {

// After its own deadline a rank waits this much longer for rank 0 to tell which ranks were missing.
constexpr std::int64_t kGraceUs = 200'000;

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

 private:
  using Outcome = std::optional<Result<std::vector<Blob>>>;
  Outcome read(std::uint64_t sequence);
  Outcome await(std::uint64_t sequence, const Deadline& deadline, const Progress& progress);

  std::unique_ptr<Channel> channel_;
  const std::int32_t rank_;
  const std::int32_t num_ranks_;
  std::uint64_t sequence_ = 0;  // of the next all-gather
  bool root_left_ = false;
  Status failure_;  // once set, nothing works any more
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
      failure_ = decode_failure(*frame);
    } else if (frame->type == FrameType::kFailure && frame->sequence == sequence) {
      outcome = decode_failure(*frame);
    } else if (frame->type == FrameType::kFailure && frame->sequence == sequence_) {
      return std::nullopt;  // rank 0 gave up on an all-gather that this rank has yet to begin
    } else if (frame->type == FrameType::kGoodbye) {
      root_left_ = true;
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
  channel_->send(encode({FrameType::kContribution, sequence, mine}));
  if (Outcome outcome = await(sequence, deadline, progress)) return std::move(*outcome);
  channel_->send(encode({FrameType::kGiveUp, sequence, {}}));
  if (Outcome outcome = await(sequence, Deadline(kGraceUs), progress)) return std::move(*outcome);
  return Status(RESHARD_ERR_TIMEOUT,
                fmt::format("all-gather: rank 0 did not answer within {} us", deadline.timeout_us()));
}

// Says hello and waits for the welcome. Empty: whoever listens there is not rank 0 of this job.
std::optional<Status> greet(Channel* channel, const Hello& hello, const Deadline& deadline) {
  Frame frame{FrameType::kHello, 0, Blob(sizeof(hello))};
  std::memcpy(frame.payload.data(), &hello, sizeof(hello));
  channel->send(encode(frame));
  while (true) {
    channel->pump();
    if (const Frame* answer = channel->front()) {
      if (answer->type == FrameType::kFailure) return decode_failure(*answer);
      if (answer->type != FrameType::kWelcome) return std::nullopt;
      channel->pop();
      channel->trust();
      return Status();
    }
    if (channel->closed() || deadline.expired()) return std::nullopt;
    std::vector<pollfd> sockets{channel->poll_entry()};
    wait_for_sockets(&sockets, sleep_ms({}, deadline));
  }
}

// A connection on which rank 0 has said welcome. RESHARD_ERR_TRANSPORT: it is not there; any other error is its answer.
Result<std::unique_ptr<Channel>> try_place(const std::string& host, std::uint16_t port, const Hello& hello,
                                           const Deadline& deadline) {
  RESHARD_TRY(Fd fd, connect_to(host, port, deadline));
  auto channel = std::make_unique<Channel>(std::move(fd));
  const auto answer = greet(channel.get(), hello, deadline);
  if (!answer) return Status(RESHARD_ERR_TRANSPORT, fmt::format("{} port {} does not know this job", host, port));
  if (!answer->ok()) return *answer;
  return channel;
}

}  // namespace

Result<std::unique_ptr<Bootstrap>> create_tcp_leaf(const Rendezvous& rendezvous, std::int32_t rank,
                                                   std::int32_t num_ranks, const Deadline& deadline) {
  constexpr auto kPause = std::chrono::milliseconds(10);  // rank 0 may not listen yet
  constexpr std::int64_t kPatienceUs = 2'000'000;         // with one of several places
  const bool is_only_place = rendezvous.num_ports == 1 && rendezvous.hosts.size() == 1;
  const Hello hello{rendezvous.nonce, rank, num_ranks};
  std::string reason;
  while (!deadline.expired()) {
    for (const std::string& host : rendezvous.hosts) {
      for (std::uint16_t i = 0; i < rendezvous.num_ports && !deadline.expired(); ++i) {
        const auto port = static_cast<std::uint16_t>(rendezvous.port + i);
        const std::int64_t left_us = deadline.remaining_us();
        auto channel = try_place(host, port, hello, Deadline(is_only_place ? left_us : std::min(left_us, kPatienceUs)));
        if (channel.ok()) {
          return std::unique_ptr<Bootstrap>(std::make_unique<TcpLeaf>(channel.take(), rank, num_ranks));
        }
        if (channel.status().code() != RESHARD_ERR_TRANSPORT) return channel.take_status();
        reason = channel.status().message();
      }
    }
    std::this_thread::sleep_for(kPause);
  }
  return Status(RESHARD_ERR_TIMEOUT,
                fmt::format("rendezvous: rank {} did not find rank 0 within {} us; the last attempt: {}", rank,
                            deadline.timeout_us(), reason));
}

}  // namespace reshard
