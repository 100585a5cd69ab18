// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What is done: flags that order streams of several devices. One warp each, lane i for flags i, i + 32, ...
// The epoch is read here, not passed: a captured launch finds the value of its run.
#ifndef RESHARD_KERNELS_CUDA_FLAGS_CUH
#define RESHARD_KERNELS_CUDA_FLAGS_CUH

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/params.h"
#include "kernels/cuda/ptx.cuh"

namespace reshard::cuda {

__global__ void __launch_bounds__(32, 1) set_flags(SetFlags set) {
  const std::uint64_t epoch = load_acquire_system(set.epoch);
  for (std::int64_t i = thread_index(); i < set.num_flags; i += 32) store_release_system(set.flags[i], epoch);
}

__global__ void __launch_bounds__(32, 1) advance_epoch(AdvanceEpoch advance) {
  if (thread_index() != 0) return;
  const std::uint64_t epoch = load_acquire_system(advance.epoch) + 1;
  store_release_system(advance.epoch, epoch);
  store_release_system(advance.mirror, epoch);
}

/// Whether all flags of this lane have arrived.
__device__ __forceinline__ bool have_arrived(const WaitFlags& wait, std::uint64_t epoch, std::uint32_t lane) {
  for (std::int64_t i = lane; i < wait.num_flags; i += 32) {
    if (load_acquire_system(wait.flags[i]) < epoch) return false;
  }
  return true;
}

/// How the wait ends for this lane.
__device__ __forceinline__ FlagOutcome wait_for_flags(const WaitFlags& wait, std::uint32_t lane) {
  const std::uint64_t epoch = load_acquire_system(wait.epoch);
  const std::int64_t begin_ns = clock_ns();
  while (!have_arrived(wait, epoch, lane)) {
    if (load_relaxed_system(wait.abort_word) != 0) return FlagOutcome::kAborted;
    if (clock_ns() - begin_ns >= wait.timeout_ns) return FlagOutcome::kTimedOut;
    pause();
  }
  return FlagOutcome::kArrived;
}

// Every lane waits for its own flags; the worst of their ends is that of the launch.
__global__ void __launch_bounds__(32, 1) wait_flags(WaitFlags wait) {
  const FlagOutcome mine = wait_for_flags(wait, thread_index());
  const bool is_aborted = any_lane(mine == FlagOutcome::kAborted);
  const bool is_late = any_lane(mine == FlagOutcome::kTimedOut);
  const FlagOutcome outcome = is_aborted ? FlagOutcome::kAborted
                              : is_late  ? FlagOutcome::kTimedOut
                                         : FlagOutcome::kArrived;
  if (thread_index() == 0) store_release_system(wait.outcome, static_cast<std::uint32_t>(outcome));
}

}  // namespace reshard::cuda

#endif
