// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <ucp/api/ucp.h>

#include <memory>
#include <string>

#include "src/base/indexed_vector.h"
#include "src/transport/bootstrap.h"

namespace reshard {

/// What UCX keeps of ours in each of its requests.
struct UcxSlot {
  Request* owner;  ///< null when abandoned
  bool is_send;
  bool is_left_to_peer;  ///< a send that goes on without us: its receiver reads the memory by itself
  UcxSlot* previous;     ///< of the list of requests in flight
  UcxSlot* next;
};

Status ucx_error(const std::string& what, ucs_status_t status);

/// Drops UCX's log of this thread while it lives: during teardown UCX warns of each message that was abandoned and of
/// each peer that went first, which is nothing new to the caller.
class UcxLogMute {
 public:
  UcxLogMute();
  ~UcxLogMute();
  UcxLogMute(const UcxLogMute&) = delete;
  UcxLogMute& operator=(const UcxLogMute&) = delete;
};

/// A UCX context with one worker, and the endpoints to its peers.
///
/// Endpoints have no error handling (UCP_ERR_HANDLING_MODE_NONE). With UCP_ERR_HANDLING_MODE_PEER they could be closed
/// by force, which ends messages that nothing else takes back; but of UCX 1.13, tried here:
///  - within a host it then does without single copies between processes, and is 4 to 20 times slower, and
///  - over tcp a second close, while the connection that the first one made necessary is being made, ends in a signal
///    inside uct_tcp_cm_conn_start.
/// So messages that may be taken back only when the peer plays along use staging (Transport::takes_back_receives), and
/// dead peers are reported by the bootstrap's connections.
class UcxWorker {
 public:
  static Result<std::unique_ptr<UcxWorker>> create(std::int32_t num_ranks, const std::string& net_devices);
  ~UcxWorker();
  UcxWorker(const UcxWorker&) = delete;
  UcxWorker& operator=(const UcxWorker&) = delete;

  ucp_context_h context() const { return context_; }
  ucp_worker_h worker() const { return worker_; }

  Result<Blob> address() const;  ///< sealed, for connect() of the others
  /// Connects to all ranks at once, while all of them are known to be there: UCX 1.13 aborts the process when a peer
  /// dies before a connection to it over tcp is complete.
  Status connect(const std::vector<Blob>& addresses, std::int32_t rank, const Deadline& deadline);
  Result<ucp_ep_h> endpoint(std::int32_t peer);

  bool is_near(std::int32_t peer) const { return peers_[RankId(peer)].is_near; }
  /// Whether the receiver of a large message reads the sender's memory by itself, however the sender fares.
  bool receiver_copies(std::int32_t peer) const { return is_near(peer) && has_single_copy_; }

  /// Whether messages of this process may lie in memory that is not the host's, so that UCX asks of each where it lies
  /// unless it is told.
  bool has_device_memory() const { return memory_types_ != UCS_BIT(UCS_MEMORY_TYPE_HOST); }
  /// Whether every rank's UCX takes messages in memory of this type. After connect().
  bool moves(ucs_memory_type_t type) const { return (common_memory_types_ & UCS_BIT(type)) != 0; }

  bool has_only_tcp() const { return has_only_tcp_; }  ///< no network but TCP

  bool progress();
  void idle();                           ///< yields at first, then sleeps until an event, at most 1 ms
  bool flush(const Deadline& deadline);  ///< until the network has taken everything; false at the deadline

 private:
  UcxWorker() = default;
  Status init(std::int32_t num_ranks, const std::string& net_devices);
  Status init_context(std::int32_t num_ranks, const std::string& net_devices);

  struct Peer {
    // Kept, because peers may be connected only when they are first used.
    Blob address;
    ucp_ep_h endpoint = nullptr;
    bool is_near = false;  // shares memory with this rank
  };

  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  std::uint64_t memory_types_ = UCS_BIT(UCS_MEMORY_TYPE_HOST);         // bits of ucs_memory_type_t: of this rank's UCX
  std::uint64_t common_memory_types_ = UCS_BIT(UCS_MEMORY_TYPE_HOST);  // those of all ranks
  bool has_only_tcp_ = true;
  bool has_shared_memory_ = false;
  bool has_single_copy_ = false;
  int event_fd_ = -1;  // the worker's
  int num_idle_ = 0;   // calls of idle() since something moved
  IndexedVector<RankId, Peer> peers_;
};

}  // namespace reshard
