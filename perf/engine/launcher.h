// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>

#include "perf/engine/handles.h"

namespace reshard::perf {

/// Exit codes of the tools.
enum ExitCode : int {
  kExitOk = 0,
  kExitError = 1,          ///< something could not be done
  kExitWrongElements = 2,  ///< everything ran, and the result is wrong
};

/// True when this process is one rank already: started by launch_ranks, or by mpirun, torchrun or srun.
bool is_rank_process();

/// The comm of a process for which is_rank_process() holds. The ranks of a host take net_devices, a list with commas
/// between its items, in turn; empty: all use all.
Comm join_ranks(std::int64_t timeout_us, const std::string& net_devices);

/// Runs this program again as num_ranks processes with the same arguments and waits for them. When one fails, the
/// others are killed; none outlives this process. Returns the failed one's exit code, else the common one.
int launch_ranks(char** argv, std::int32_t num_ranks);

}  // namespace reshard::perf
