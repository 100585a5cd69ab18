// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The communicator behind an NcclComm, and its life: connected, used, ended. Only for sources of this room that are
// built with NCCL.
#pragma once

#include <memory>
#include <vector>

#include "src/device/memory.h"
#include "src/transport/nccl/comm.h"
#include "src/transport/nccl/functions.h"

namespace reshard {

struct NcclComm::State {
  enum class Life : std::uint8_t {
    kNone,     ///< nothing was made, or it is freed again
    kAlive,    ///< ready for work
    kRevoked,  ///< can only be destroyed
    kLost      ///< a thread is inside NCCL for good: nothing may touch the communicator any more
  };

  std::shared_ptr<const NcclLibrary> library;
  NcclOptions options;
  std::int32_t device = -1;
  std::int32_t rank = -1;
  std::int32_t num_ranks = 0;
  ncclComm_t comm = nullptr;
  Life life = Life::kNone;
  Status failure;  ///< the first one; it sticks
  // Of the warm-up: what a kernel may still use stays as long as the communicator.
  DeviceMemory scratch;
  std::vector<Stream> streams;

  const NcclFunctions& nccl() const { return library->functions(); }
  bool is_given() const { return options.given != nullptr; }
  Status check(std::string_view call, ncclResult_t code) const { return nccl_status(nccl(), call, code, comm); }
  Status fail(Status status);  ///< keeps it if it is the first; returns it
};

using NcclState = std::shared_ptr<NcclComm::State>;

/// Whether a given communicator is what this rank needs.
Status check_given(const NcclComm::State& state);

/// Until no call of the communicator is under way: OK, or what it came to. `collective` may be null.
Status settle(const NcclComm::State& state, std::string_view what, const Deadline& deadline, Collective* collective);

/// See NcclComm::exchange(). On any thread, one at a time.
Status exchange_group(const NcclComm::State& state, std::span<const NcclOperation> operations, const Stream& stream,
                      const Deadline& deadline);

/// Makes the communicator of an id. Where it fails nothing is left but what cannot be called off.
Status connect(const NcclState& state, const std::vector<std::byte>& id, const Deadline& deadline,
               Collective* collective);

/// See NcclComm::give_up().
Status end_work(const NcclState& state, const Deadline& deadline);

/// See ~NcclComm(). Keeps for ever what NCCL may still use.
void dispose(NcclState state);

}  // namespace reshard
