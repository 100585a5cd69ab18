// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A communicator of NCCL for one binding. It is no Messenger: NCCL has neither tags nor cancels, and its sends and
// receives are work in a stream, that ends when the peer's has come to the same place. So whoever uses it gives all
// ranks one order of groups (exec/stages.h), and what goes wrong ends the communicator.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "src/base/status.h"
#include "src/device/stream.h"
#include "src/transport/collective.h"
#include "src/transport/deadline.h"
#include "src/transport/nccl/library.h"

namespace reshard {

struct NcclOptions {
  std::string library = {};  ///< file name or path; empty: NcclLibrary::kDefaultName
  /// The caller's ncclComm_t, in place of one of its own: of as many ranks as the Collective, each the same rank in
  /// both, on `device`. It stays the caller's, is never destroyed here, and nothing else may use it during a run.
  void* given = nullptr;
  /// give_up() may revoke the caller's communicator, which he must destroy after a failed run; else a run that fails
  /// leaves work on it that waits for the peers, and the device with it.
  bool may_revoke_given = false;
  /// Blocking, which is what a stream that captures a graph needs. Costs: a peer that dies while connections are made
  /// leaves a thread inside NCCL, which cannot be called off. Of a given communicator the caller says what it is.
  bool is_capturable = false;
  /// Most SMs that a group of NCCL takes; 0: NCCL's own choice, but no more than 32 before 2.29.7, so that groups may
  /// have 6 operations. Of a given communicator: what it was made with; 0: not known.
  std::int32_t max_ctas = 0;
  std::int32_t traffic_class = -1;  ///< of network messages, as the NICs understand it; -1: NCCL's own choice
};

/// One send or receive of a group.
struct NcclOperation {
  enum class Kind : std::uint8_t { kSend, kReceive };
  Kind kind = Kind::kSend;
  std::int32_t peer = -1;  ///< a rank; may be this one, whose sends and receives then match each other in order
  void* data = nullptr;    ///< on the communicator's device; of a send, only read
  std::int64_t size_bytes = 0;
};

/// One thread at a time, as the Collective it was made over: calls that wait hold up nobody else's communicator, but
/// where several are on one device, all ranks must use them in one order.
class NcclComm {
 public:
  /// Collective: either every rank has a communicator, or every rank has the same error and nothing is left behind
  /// (where the comm would be capturable, a thread may be, see NcclOptions). All look whether they can, rank 0's id
  /// goes round, NCCL connects, all say whether it did. RESHARD_ERR_NOT_SUPPORTED: no library (NcclLibrary::load), two
  /// ranks on one device with a version that does not take it, capturable with a version that could not be given up.
  /// RESHARD_ERR_INVALID_ARGUMENT: a given communicator of another size, rank or device; ranks with options that must
  /// be equal and are not; numbers out of range. RESHARD_ERR_PLAN_MISMATCH: ranks with different versions of NCCL.
  /// RESHARD_ERR_TIMEOUT, RESHARD_ERR_PEER_FAILED; RESHARD_ERR_TRANSPORT: what NCCL reported, with its text.
  /// `arguments`: what the caller found wrong already, which then is every rank's error.
  static Result<std::unique_ptr<NcclComm>> create(Collective* collective, std::int32_t device,
                                                  const NcclOptions& options, const Deadline& deadline,
                                                  Status arguments = {});

  /// Finishes what is queued within kDestroyUs where the peers play along, then frees the communicator unless it is the
  /// caller's. Graphs that captured its work must be gone by then.
  ~NcclComm();
  NcclComm(const NcclComm&) = delete;
  NcclComm& operator=(const NcclComm&) = delete;
  static constexpr std::int64_t kDestroyUs = 50'000;  ///< for peace; as long again, at most, for what comes after
  static constexpr std::int64_t kGiveUpUs = 500'000;  ///< what create() allows for a communicator that it gives up

  const NcclLibrary& library() const;
  bool is_capturable() const;
  bool is_given() const;

  /// Sends and receives together that one exchange() may have; 0: any number. The same on all ranks.
  std::int64_t max_group_operations() const;

  /// Makes connections, which NCCL else makes when they are first used and waits for: exchanges a byte with every peer.
  /// Collective in that both ends of an edge must name it; ranks without one need not call. In any order, each peer at
  /// most once per list. Blocks until the bytes have arrived. With the collective's turn; a peer that it knows to be
  /// gone ends the wait.
  Status warm_up(std::span<const std::int32_t> sends_to, std::span<const std::int32_t> receives_from,
                 Collective* collective, const Deadline& deadline);

  /// Queues all operations as one group on a stream of the communicator's device, after what the stream holds. Returns
  /// when they are queued, so that other work may go behind them; that waits for peers only where a connection is new.
  /// Operations of one direction with one peer match those of the peer in order, and must have the same sizes: what
  /// differs is found by NCCL in some cases only, else the group does not end.
  /// @pre operations.size() <= max_group_operations() unless that is 0
  Status exchange(std::span<const NcclOperation> operations, const Stream& stream, const Deadline& deadline);

  /// OK, or what has befallen the communicator since: RESHARD_ERR_PEER_FAILED, RESHARD_ERR_TRANSPORT, with NCCL's text.
  /// Waits for nothing. The status sticks.
  Status poll();

  /// Ends all work of the communicator in streams, so that they run on; what it would have moved is lost, and the
  /// communicator can only be destroyed. By ncclCommRevoke where the library has it, else by ncclCommAbort. Errors:
  /// RESHARD_ERR_INVALID_STATE: the caller's communicator, which may not be ended; RESHARD_ERR_TIMEOUT: NCCL has not
  /// stopped by the deadline.
  Status give_up(const Deadline& deadline);
  bool is_given_up() const;  ///< or never came to be of use

  struct State;  ///< of this room's sources

 private:
  explicit NcclComm(std::shared_ptr<State> state);
  Status wait_for(const Stream& stream, const Deadline& deadline, Collective* collective);
  std::shared_ptr<State> state_;  // shared with a thread that could not be called off
};

}  // namespace reshard
