// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// One rank of a communicator, and what it goes through.
#pragma once

#include <nccl.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/doubles/nccl/clique.h"
#include "tests/doubles/nccl/planner.h"
#include "tests/doubles/nccl/world.h"

namespace nccl_double {

class Comm {
 public:
  enum class Phase { kConnecting, kReady, kFinalizing, kFinalized, kRevoking, kRevoked, kAborted, kDestroyed };

  /// What a non-blocking communicator was asked for and has not begun.
  struct Pending {
    std::function<bool()> is_due;
    std::function<ncclResult_t()> run;
  };

  std::shared_ptr<Clique> clique;
  int rank = 0;
  int device = 0;
  bool is_blocking = true;
  bool orders_launches = false;  // NCCL_LAUNCH_ORDER_IMPLICIT
  PlanRules rules;
  Phase phase = Phase::kConnecting;
  std::int64_t num_unfinished = 0;  // kernels that are queued or run
  std::thread::id owner_of_group;   // the thread whose open group has operations of this communicator
  std::int64_t num_captured = 0;    // groups that graphs hold
  int num_inside = 0;               // threads that wait inside a function for it
  int polls_left = 0;               // questions to which the answer still is ncclInProgress
  std::vector<Pending> pending;

  /// Its kernels end where they are, and nothing more is queued.
  bool is_ended() const { return phase == Phase::kAborted || phase == Phase::kRevoking || phase == Phase::kRevoked; }
  bool is_in_progress() const;
  /// What ncclCommGetAsyncError tells.
  ncclResult_t async_error() const;
  /// "rank 3 of 8 (device 3)"
  std::string name() const;

  /// What happens by and by on a non-blocking communicator: each question brings it on.
  void advance();
  /// A process that has died breaks it.
  void look_for_dead_peers();
  /// Gives it something to do, one question later or three.
  void hesitate(Pending action);
  /// Forgets what was pending.
  void drop_pending();
  /// Its asynchronous error becomes this code.
  void note_error(ncclResult_t code);
  /// The same for all its other ranks: ncclRemoteError.
  void break_all(ncclResult_t code);

 private:
  std::chrono::steady_clock::time_point last_look_;
};

/// Of a handle; null when it is none, and then the reason is the last error.
std::shared_ptr<Comm> comm_of(ncclComm_t handle, const char* function);
ncclComm_t add_handle(std::shared_ptr<Comm> comm);
void remove_handle(ncclComm_t handle);

/// That nothing is under way, and no error has befallen it.
ncclResult_t check_ready(const Comm& comm, const char* function);
/// That it can be given operations, at this moment and by this thread.
ncclResult_t check_usable(const Comm& comm, const char* function);

}  // namespace nccl_double
