// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What the engine (src/exec) asks of whatever moves bytes between ranks: messages that match by tag, memory that a peer
// on the same host can map, an all-gather, and the news of who is gone. It is narrow on purpose, so that one suite of
// tests holds for every transport. It is polled: nothing calls back, and only idle(), allgather() and cancel_all()
// wait, so that the engine decides when the caller's thread sleeps.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "src/base/status.h"
#include "src/transport/turn.h"

namespace reshard {

/// A moment after which a wait gives up. Made from microseconds; RESHARD_TIMEOUT_INFINITE never expires.
class Deadline {
 public:
  explicit Deadline(std::int64_t timeout_us);
  bool expired() const;
  std::int64_t remaining_us() const;  ///< 0 when expired
  std::int64_t timeout_us() const { return timeout_us_; }

 private:
  std::chrono::steady_clock::time_point end_;
  std::int64_t timeout_us_;
  bool infinite_;
};

class EndedRequests;

/// One message in flight. Owned by the caller, at a fixed address for as long as it is pending.
///
/// States: kIdle -> kPending by a post that succeeds, -> kDone or kFailed by end(); a cancel leads back to kIdle. All
/// four may be posted from but kPending, so that one object serves a slot for as many windows as pass through it.
struct Request {
  enum class State : std::uint8_t { kIdle, kPending, kDone, kFailed };
  State state = State::kIdle;           ///< written by posts, progress() and cancels only
  reshard_status_t error = RESHARD_OK;  ///< why it failed
  void* impl = nullptr;                 ///< the transport's
  EndedRequests* tell = nullptr;        ///< the owner's list that it is put on when it ends; null: none
  Request* next_ended = nullptr;        ///< the list's
  bool is_listed = false;               ///< on the list
  bool pending() const { return state == State::kPending; }
  bool done() const { return state == State::kDone; }
  bool failed() const { return state == State::kFailed; }

  // The transport's side. What is the owner's stays.
  void begin(void* given) { state = State::kPending, error = RESHARD_OK, impl = given; }
  void reset() { state = State::kIdle, error = RESHARD_OK, impl = nullptr; }
  void end(reshard_status_t outcome);  ///< RESHARD_OK: done
};

/// The requests that have ended, for an owner of many who does not want to look at all of them on every turn. One that
/// was posted again meanwhile may be among them; one is there once at most. A cancel puts nothing on it.
///
/// The list runs through the requests themselves (next_ended), so that pushing allocates nothing. Whoever pops a
/// request looks at its state, because it may be pending again.
class EndedRequests {
 public:
  void push(Request* request) {
    // Keeps the one link of a request from being in two places of the list, which would cut it or close it to a circle.
    if (request->is_listed) return;
    request->is_listed = true;
    request->next_ended = nullptr;
    (first_ == nullptr ? first_ : last_->next_ended) = request;
    last_ = request;
  }
  Request* pop() {  ///< the earliest, or null
    Request* request = first_;
    if (request == nullptr) return nullptr;
    first_ = request->next_ended;
    request->is_listed = false;
    return request;
  }

 private:
  Request* first_ = nullptr;
  Request* last_ = nullptr;
};

inline void Request::end(reshard_status_t outcome) {
  state = outcome == RESHARD_OK ? State::kDone : State::kFailed;
  error = outcome;
  impl = nullptr;
  if (tell != nullptr) tell->push(this);
}

/// What kind of memory a pointer leads to.
enum class MemorySpace : std::uint8_t {
  kHost,    ///< any thread may read and write it, pinned or not
  kDevice,  ///< only kernels and copy engines of a device, and messengers that know how
};

/// What another rank needs to map a piece of memory; a few hundred bytes, sent out of band. Empty: cannot be mapped.
using MemoryKey = std::vector<std::byte>;

/// Moves windows between ranks. One object per rank, used by one thread at a time: threads that share it hold turn()
/// while they call anything else of it. Messages match by (source, tag), in order of
/// posting. A send completes when its memory may be reused; it may need the matching receive to be posted first, and
/// must never buffer more than kMaxEagerBytes of it elsewhere.
class Transport {
 public:
  // What is larger waits in the sender's memory until the receiver has named a place for it, so that a late receiver
  // costs time and never memory. The UCX transport sets UCX's threshold to it.
  static constexpr std::size_t kMaxEagerBytes = 8192;

  virtual ~Transport() = default;

  virtual std::int32_t rank() const = 0;
  virtual std::int32_t num_ranks() const = 0;
  virtual std::string name() const = 0;  ///< "local", "ucx"

  /// Announces that up to num_requests sends and as many receives will be pending at once: what the transport itself
  /// allocates for them, it allocates now.
  virtual void reserve(std::size_t num_requests) = 0;

  /// Messages to one peer that may be in flight at once without holding up the end of the first at the peer.
  /// Two keep the link busy while the first one is taken out of its slot.
  virtual std::int32_t most_per_peer() const { return 2; }

  /// Posts; completion shows in `request`. size_bytes 0 is a valid message. A failure to post is returned, and the
  /// request is left idle. `peer` may be this rank itself.
  virtual Status send(std::int32_t peer, std::uint64_t tag, const void* data, std::size_t size_bytes,
                      Request* request) = 0;
  /// A message that is longer than size_bytes fails the request with RESHARD_ERR_TRANSPORT.
  virtual Status recv(std::int32_t peer, std::uint64_t tag, void* data, std::size_t size_bytes, Request* request) = 0;

  /// Advances messages; true when something moved. Never blocks, never allocates for pending requests.
  virtual bool progress() = 0;

  /// Waits a little for something to happen: yields at first, then sleeps until an event or `deadline`, at most 1 ms.
  /// To be called after progress() returned false.
  virtual void idle() = 0;

  /// Abandons requests, all together within `budget`. Afterwards none of them is pending, and the transport touches
  /// neither them nor their memory any more. Where that cannot be had (never where takes_back_sends() or
  /// takes_back_receives() is true), some stay pending and false is returned: these and their memory must stay until
  /// they are not pending any more or the transport is destroyed. A peer that was offered a message may still receive
  /// it, or have to discard() it; memory of a send may then still be read by that peer, in place, on the same host.
  /// For the end of a failed run: the status has to come within a deadline although peers may be dead, and the caller
  /// may then free his tensors. What cannot be taken back is handed to keep().
  virtual bool cancel_all(std::span<Request* const> requests, const Deadline& budget) = 0;
  // Time for a peer that plays along to finish what it has begun, and short beside the deadlines that people set.
  static constexpr std::int64_t kCancelUs = 100'000;
  bool cancel(Request* request) { return cancel_all(std::span<Request* const>(&request, 1), Deadline(kCancelUs)); }

  /// Whether send() and recv() take memory of this kind, on every rank alike. Memory of the host always.
  virtual bool moves(MemorySpace space) const { return space == MemorySpace::kHost; }

  /// Whether cancel_all() gets every send to this peer, or every receive from it, back within its budget, so that the
  /// memory may be the caller's own.
  virtual bool takes_back_sends(std::int32_t peer) const = 0;
  virtual bool takes_back_receives(std::int32_t peer) const = 0;

  /// Whether map() may give memory of this peer; equal on both ends.
  virtual bool shares_memory(std::int32_t peer) const = 0;

  /// Throws away what the peer sent with this tag and nobody has posted a receive for; how many messages that were.
  virtual std::int32_t discard(std::int32_t peer, std::uint64_t tag) = 0;

  /// Memory that peers on this host can map; page aligned, zeroed. free() refuses pointers it did not give.
  virtual Result<void*> allocate(std::size_t size_bytes) = 0;
  virtual Status free(void* ptr) = 0;

  /// The key of the allocation that [ptr, ptr + size_bytes) lies in; empty when it is not from allocate().
  virtual MemoryKey export_memory(const void* ptr, std::size_t size_bytes) = 0;

  /// The address at which this rank sees the first byte of the peer's exported range, or null when it cannot be mapped
  /// (another host). Valid until the transport is destroyed or unmap().
  virtual Result<void*> map(std::int32_t peer, const MemoryKey& key) = 0;
  virtual void unmap(std::int32_t peer, const MemoryKey& key, void* ptr) = 0;

  /// Collective all-gather of blobs of any size, in rank order. Progresses the transport while it waits, so it is also
  /// the barrier before teardown. RESHARD_ERR_TIMEOUT names the ranks that were missing where they are known.
  virtual Result<std::vector<std::vector<std::byte>>> allgather(const std::vector<std::byte>& mine,
                                                                const Deadline& deadline) = 0;

  /// OK, or RESHARD_ERR_PEER_FAILED naming a peer that is known to be gone. Costs a system call: not for every turn.
  virtual Status health() = 0;

  /// The ranks that are known, as of the last health() or allgather(), to have destroyed their transport, in the order
  /// of the news: the list only grows. Messages that such a rank sent before may still come.
  /// Apart from health(), since leaving is no failure: at the end of a job the first rank to be done leaves while
  /// others still take in what it sent them.
  virtual std::span<const std::int32_t> departed() const = 0;

  /// Whose turn it is to use this object.
  Turn& turn() { return turn_; }

  /// Keeps requests and memory that could not be taken back until the transport is gone.
  void keep(std::shared_ptr<void> object) { kept_.push_back(std::move(object)); }

 private:
  Turn turn_;
  std::vector<std::shared_ptr<void>> kept_;  // outlives what the derived classes hold
};

}  // namespace reshard
