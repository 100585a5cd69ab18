// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// One rank of a communicator, and the work that groups gave it.
#pragma once

#include <nccl.h>

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

class Comm : public std::enable_shared_from_this<Comm> {
 public:
  enum class Phase { kConnecting, kReady, kFinalizing, kFinalized, kRevoking, kRevoked, kAborted, kDestroyed };

  std::shared_ptr<Clique> clique;
  int rank = 0;
  int device = 0;
  bool is_blocking = true;
  PlanRules rules;
  Phase phase = Phase::kConnecting;
  std::int64_t num_unfinished = 0;  // kernels in streams, or captured ones that run
  std::thread::id owner_of_group;   // the thread whose open group has operations of this communicator
  int num_inside = 0;               // threads that wait inside a function for it

  bool is_ended() const { return phase == Phase::kAborted || phase == Phase::kRevoking || phase == Phase::kRevoked; }
  std::string name() const;

  /// What a non-blocking communicator goes through by and by: each question brings it on.
  void advance();
  bool is_in_progress() const {
    return polls_left > 0 || !pending.empty() || phase == Phase::kConnecting || phase == Phase::kFinalizing ||
           phase == Phase::kRevoking;
  }
  ncclResult_t async_error() const;

  /// Starts something that takes a while on a non-blocking communicator: what is left to do then is done by advance().
  ncclResult_t begin(std::function<void()> action);

  int polls_left = 0;
  std::vector<std::function<void()>> pending;
};

/// Of a handle; null when it is none, and then the reason is the last error.
std::shared_ptr<Comm> comm_of(ncclComm_t handle, const char* function);
ncclComm_t add_handle(std::shared_ptr<Comm> comm);
void remove_handle(ncclComm_t handle);

/// That it can be given operations, at this moment and by this thread.
ncclResult_t check_usable(const Comm& comm, const char* function);

}  // namespace nccl_double
