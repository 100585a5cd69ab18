// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <algorithm>
#include <chrono>
#include <map>
#include <thread>

#include <fmt/format.h>

#include "src/device/device.h"
#include "src/transport/nccl/comm_state.h"
#include "src/transport/nccl/detour.h"

namespace reshard {
namespace {

using State = NcclComm::State;
using Groups = std::map<std::int64_t, std::vector<NcclOperation>>;

constexpr auto kPause = std::chrono::microseconds(100);
constexpr int kTurnsPerHealth = 100;  // it costs a system call

/// A group is begun and ended whatever happens between, since it belongs to the thread.
Status queue_group(const State& state, std::span<const NcclOperation> operations, const Stream& stream) {
  const NcclFunctions& nccl = state.nccl();
  auto* const handle = static_cast<cudaStream_t>(stream.handle());
  RESHARD_TRY(state.check("ncclGroupStart", nccl.ncclGroupStart()));
  Status queued;
  for (const NcclOperation& op : operations) {
    const auto size = static_cast<std::size_t>(op.size_bytes);
    const bool is_send = op.kind == NcclOperation::Kind::kSend;
    const ncclResult_t code = is_send ? nccl.ncclSend(op.data, size, ncclUint8, op.peer, state.comm, handle)
                                      : nccl.ncclRecv(op.data, size, ncclUint8, op.peer, state.comm, handle);
    queued = state.check(is_send ? "ncclSend" : "ncclRecv", code);
    if (!queued.ok()) break;
  }
  const Status ended = state.check("ncclGroupEnd", nccl.ncclGroupEnd());
  return queued.ok() ? ended : queued;
}

/// A byte to and from every peer, in groups. The distance of an edge is by how much the receiver's rank is beyond the
/// sender's, counted round. Both ends find the same, and a rank has at most one send and one receive of each: so groups
/// of as many distances each are the same on all ranks, and none has more operations than a group may.
class Greetings {
 public:
  Greetings(const State& state, std::int64_t max_operations)
      : rank_(state.rank),
        num_ranks_(state.num_ranks),
        distances_per_group_(max_operations == 0 ? num_ranks_ : std::max<std::int64_t>(1, max_operations / 2)) {}

  void add_send(std::int32_t peer, void* byte) { add(peer - rank_, {NcclOperation::Kind::kSend, peer, byte, 1}); }
  void add_receive(std::int32_t peer, void* byte) { add(rank_ - peer, {NcclOperation::Kind::kReceive, peer, byte, 1}); }
  Groups take() { return std::move(groups_); }

 private:
  void add(std::int64_t difference, const NcclOperation& op) {
    groups_[(difference + num_ranks_) % num_ranks_ / distances_per_group_].push_back(op);
  }
  std::int64_t rank_;
  std::int64_t num_ranks_;
  std::int64_t distances_per_group_;
  Groups groups_;
};

}  // namespace

Status exchange_group(const State& state, std::span<const NcclOperation> operations, const Stream& stream,
                      const Deadline& deadline) {
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(state.device));
  RESHARD_TRY(queue_group(state, operations, stream));
  // Before NCCL's own threads have queued the group nothing may go behind it.
  return settle(state, "a group of NCCL", deadline, nullptr);
}

Status NcclComm::wait_for(const Stream& stream, const Deadline& deadline, Collective* collective) {
  for (int turn = 1;; ++turn) {
    RESHARD_TRY(const bool is_done, stream.is_done());
    if (is_done) return {};
    RESHARD_TRY(poll());
    if (deadline.expired()) {
      return {RESHARD_ERR_TIMEOUT,
              fmt::format("the first bytes of NCCL have not all arrived after {} ms: a peer has not "
                          "come to it, or is gone",
                          deadline.timeout_us() / 1000)};
    }
    if (turn % kTurnsPerHealth == 0) RESHARD_TRY(collective->health());
    std::this_thread::sleep_for(kPause);
  }
}

Status NcclComm::warm_up(std::span<const std::int32_t> sends_to, std::span<const std::int32_t> receives_from,
                         Collective* collective, const Deadline& deadline) {
  RESHARD_TRY(state_->failure);
  if (sends_to.empty() && receives_from.empty()) return {};
  RESHARD_TRY(Stream stream, Stream::create(state_->device));
  RESHARD_TRY(state_->scratch, DeviceMemory::allocate(state_->device, receives_from.size() + 1));
  state_->streams.push_back(std::move(stream));
  Greetings greetings(*state_, max_group_operations());
  auto* byte = static_cast<std::byte*>(state_->scratch.data());
  for (const std::int32_t peer : sends_to) greetings.add_send(peer, byte);
  for (const std::int32_t peer : receives_from) greetings.add_receive(peer, ++byte);
  auto call = [state = state_, groups = greetings.take(), deadline]() -> Status {
    for (const auto& [number, operations] : groups) {
      RESHARD_TRY(exchange_group(*state, operations, state->streams.back(), deadline));
    }
    return {};
  };
  const Detour made = make_detour("connecting with NCCL", std::move(call), after(deadline), collective);
  if (!made.is_back) state_->life = State::Life::kLost;
  if (!made.status.ok()) return state_->fail(made.status);
  return state_->fail(wait_for(state_->streams.back(), deadline, collective));
}

}  // namespace reshard
