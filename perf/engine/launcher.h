// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// How reshard_perf comes to have ranks: it starts them itself on this host, or finds that a launcher has done so. Every
// rank parses the same command line again and does its part.
#pragma once

#include <cstdint>
#include <string>

#include "perf/engine/handles.h"

namespace reshard::perf {

/// Exit codes of the tools.
enum ExitCode : int {
  kExitOk = 0,
  kExitError = 1,          ///< something could not be done
  kExitWrongElements = 2,  ///< everything ran, and the result is wrong
};

/// True when launch_ranks started this process.
bool is_started_rank();

/// True when this process is one rank already: started by launch_ranks, or by mpirun, torchrun or srun. Every shell
/// inside a Slurm job looks like a rank of srun.
bool is_rank_process();

/// The variables of launchers by which a process takes itself for a rank of theirs, with values, for messages; empty:
/// none, or launch_ranks started it.
std::string launcher_variables();

/// The comm of a process for which is_rank_process() holds. The ranks of a host take net_devices, a list with commas
/// between its items, in turn; empty: all use all. Says on stderr for whom it waits when that takes long.
Comm join_ranks(std::int64_t timeout_us, const std::string& net_devices);

/// Runs this program again as num_ranks processes with the same arguments and waits for them. When one fails, or does
/// not end within timeout_us after another has, the others are stopped; none outlives this process. Returns the failed
/// one's exit code, else the common one.
int launch_ranks(char** argv, std::int32_t num_ranks, std::int64_t timeout_us);

}  // namespace reshard::perf
