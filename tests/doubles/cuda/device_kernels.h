// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The kernels, compiled for the processor from the sources that a device runs. All blocks of a launch run one after
// another, in the calling thread. std::runtime_error is thrown for what a device would hang on, fault on or leave
// undefined: a barrier that not all threads reach, a misaligned access.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/params.h"

namespace reshard::testing {

void run_copy_tiles(const cuda::CopyBatch& batch, std::uint32_t num_blocks);
void run_copy_scaled_tiles(const cuda::CopyBatch& batch, std::uint32_t num_blocks);
void run_copy_tiles_in_bulk(const cuda::CopyBatch& batch, std::uint32_t num_blocks);
void run_set_flags(const cuda::SetFlags& set);
void run_advance_epoch(const cuda::AdvanceEpoch& advance);

/// How devices convert that have no instructions for it: four values to codes and back, but for NaNs.
std::uint32_t pack_e4m3_by_hand(const float (&values)[4]);
void unpack_e4m3_by_hand(std::uint32_t codes, float (&values)[4]);

/// One look at the flags; false: nothing has ended the wait yet. `begin_ns` is when it began, as kernel_clock_ns()
/// says.
bool try_wait_flags(const WaitFlags& wait, std::int64_t begin_ns);

/// Of the steady clock.
std::int64_t kernel_clock_ns();

}  // namespace reshard::testing
