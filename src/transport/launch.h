// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a process learns from the environment that its launcher gave it. Reading only, of variables that the caller
// hands in: tests put any launcher's there, and the library reads its environment in one place (src/api).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "src/base/status.h"
#include "src/transport/bootstrap_secret.h"

namespace reshard {

/// Where the ranks of one job meet. Rank 0 listens on the first free one of num_ports ports from `port` on; the others
/// try them on all its hosts in turn and stay where the answer proves that it knows the secret.
struct Rendezvous {
  std::vector<std::string> hosts;  ///< names or addresses of rank 0's host
  std::uint16_t port = 0;
  std::uint16_t num_ports = 1;
  Secret secret;  ///< the same for all ranks of a job, different for another job
};

/// What a launcher tells a process about its job.
struct Launch {
  std::int32_t rank = 0;
  std::int32_t num_ranks = 0;
  Rendezvous rendezvous;
  /// For messages: whose variables with which values were taken, and which others say something else.
  std::string origin;
};

/// What a process knows about who started it.
struct Surroundings {
  std::function<const char*(const char* name)> variable;  ///< null when it is not set
  std::string parent;  ///< name of the parent process, e.g. "slurmstepd"; may be empty
};

/// Reads the variables of the launcher that started this process: torchrun, mpirun (Open MPI) or srun. Variables are
/// inherited, so those of several may be there. In this order:
///   1. a parent process that is a launcher itself (mpirun or its daemon, Slurm's step daemon);
///   2. torchrun, if it or another per-process launcher set LOCAL_RANK or TORCHELASTIC_RUN_ID: where it is combined
///   with
///      the others it is started by them;
///   3. mpirun: RANK and WORLD_SIZE alone may come from a pod or a shell, and be the same for all ranks;
///   4. RANK and WORLD_SIZE;
///   5. srun, last, because every shell inside a Slurm job has its variables.
/// RESHARD_ROOT=host:port overrides the meeting place; RESHARD_SECRET, any text, makes the job's secret one that
/// strangers cannot guess: of the launchers only mpirun gives one. RESHARD_ERR_INVALID_STATE names the variables that
/// are missing, RESHARD_ERR_INVALID_ARGUMENT the one that is malformed.
Result<Launch> launch_from_environment(const Surroundings& surroundings);

}  // namespace reshard
