// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "src/base/status.h"

namespace reshard {

/// Where the ranks of one job meet. Rank 0 listens on the first free one of num_ports ports from `port` on; the others
/// try them on all its hosts in turn and stay where the answer knows the nonce.
struct Rendezvous {
  std::vector<std::string> hosts;  ///< names or addresses of rank 0's host
  std::uint16_t port = 0;
  std::uint16_t num_ports = 1;
  std::uint64_t nonce = 0;  ///< the same for all ranks of a job, different for another job
};

/// What a launcher tells a process about its job.
struct Launch {
  std::int32_t rank = 0;
  std::int32_t num_ranks = 0;
  Rendezvous rendezvous;
};

/// Looks a variable up in an environment; null when it is not set.
using EnvironmentLookup = std::function<const char*(const char* name)>;

/// Reads the variables of torchrun, mpirun (Open MPI) or srun, in this order, since each may run inside the next.
/// RESHARD_ROOT=host:port overrides the meeting place. RESHARD_ERR_INVALID_STATE names the variables that are missing,
/// RESHARD_ERR_INVALID_ARGUMENT the one that is malformed.
Result<Launch> launch_from_environment(const EnvironmentLookup& lookup);

}  // namespace reshard
