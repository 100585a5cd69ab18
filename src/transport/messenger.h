// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "src/base/status.h"
#include "src/device/memory_space.h"
#include "src/transport/deadline.h"
#include "src/transport/request.h"

namespace reshard {

/// Moves windows between ranks. Messages match by (source, tag), in order of posting. A send completes when its memory
/// may be reused; it may need the matching receive to be posted first, and must never buffer more than kMaxEagerBytes
/// of it elsewhere. Polled: nothing calls back, and only idle() and cancel_all() wait.
class Messenger {
 public:
  virtual ~Messenger() = default;

  // What is larger waits in the sender's memory until the receiver has named a place for it, so that a late receiver
  // costs time and never memory. The UCX transport sets UCX's threshold to it.
  static constexpr std::size_t kMaxEagerBytes = 8192;

  /// Announces that up to num_requests sends and as many receives will be pending at once: what the messenger itself
  /// allocates for them, it allocates now.
  virtual void reserve(std::size_t num_requests) = 0;

  /// Messages to one peer that may be in flight at once without holding up the end of the first at the peer.
  /// Two keep the link busy while the first one is taken out of its slot.
  virtual std::int32_t most_per_peer() const { return 2; }

  /// Whether send() and recv() take memory of this kind, on every rank alike. Memory of the host always.
  virtual bool moves(MemorySpace space) const { return space == MemorySpace::kHost || space == MemorySpace::kPinned; }

  /// Posts; completion shows in `request`. size_bytes 0 is a valid message. A failure to post is returned, and the
  /// request is left idle. `peer` may be this rank itself. `space` is that of `data`. @pre moves(space)
  virtual Status send(std::int32_t peer, std::uint64_t tag, const void* data, std::size_t size_bytes, MemorySpace space,
                      Request* request) = 0;
  /// A message that is longer than size_bytes fails the request with RESHARD_ERR_TRANSPORT.
  virtual Status recv(std::int32_t peer, std::uint64_t tag, void* data, std::size_t size_bytes, MemorySpace space,
                      Request* request) = 0;
  /// The same with memory of the host.
  Status send(std::int32_t peer, std::uint64_t tag, const void* data, std::size_t size_bytes, Request* request) {
    return send(peer, tag, data, size_bytes, MemorySpace::kHost, request);
  }
  Status recv(std::int32_t peer, std::uint64_t tag, void* data, std::size_t size_bytes, Request* request) {
    return recv(peer, tag, data, size_bytes, MemorySpace::kHost, request);
  }

  /// Advances messages; true when something moved. Never blocks, never allocates for pending requests.
  virtual bool progress() = 0;

  /// Waits a little for something to happen: yields at first, then sleeps until an event or `deadline`, at most 1 ms.
  /// To be called after progress() returned false.
  virtual void idle() = 0;

  /// Abandons requests, all together within `budget`. Afterwards none of them is pending, and the messenger touches
  /// neither them nor their memory any more. Where that cannot be had (never where takes_back_sends() or
  /// takes_back_receives() is true), some stay pending and false is returned: these and their memory must stay until
  /// they are not pending any more or the messenger is destroyed. A peer that was offered a message may still receive
  /// it, or have to discard() it; memory of a send may then still be read by that peer, in place, on the same host.
  /// For the end of a failed run: the status has to come within a deadline although peers may be dead, and the caller
  /// may then free his tensors. What cannot be taken back is handed to keep().
  virtual bool cancel_all(std::span<Request* const> requests, const Deadline& budget) = 0;
  // Time for a peer that plays along to finish what it has begun, and short beside the deadlines that people set.
  static constexpr std::int64_t kCancelUs = 100'000;
  bool cancel(Request* request) { return cancel_all(std::span<Request* const>(&request, 1), Deadline(kCancelUs)); }

  /// Whether cancel_all() gets every send to this peer of memory of this kind, or every receive from it, back within
  /// its budget, so that the memory may be the caller's own.
  virtual bool takes_back_sends(std::int32_t peer, MemorySpace space) const = 0;
  virtual bool takes_back_receives(std::int32_t peer) const = 0;

  /// Throws away what the peer sent with this tag and nobody has posted a receive for; how many messages that were.
  virtual std::int32_t discard(std::int32_t peer, std::uint64_t tag) = 0;

  /// Keeps requests and memory that could not be taken back until the messenger is gone.
  void keep(std::shared_ptr<void> object) { kept_.push_back(std::move(object)); }

 private:
  std::vector<std::shared_ptr<void>> kept_;  // outlives what the derived classes hold
};

}  // namespace reshard
