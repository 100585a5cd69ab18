// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Tells the double what to run for the kernels of kernels/cuda, by the names that nvcc gives them.
#include "kernels/cuda/params.h"
#include "tests/doubles/cuda/bound_kernel.h"
#include "tests/doubles/cuda/device_kernels.h"

namespace reshard::testing {
namespace {

bool copy_tiles(const cuda_double::LaunchShape& shape, const cuda::CopyBatch& batch) {
  run_copy_tiles(batch, shape.grid[0]);
  return true;
}

bool copy_scaled_tiles(const cuda_double::LaunchShape& shape, const cuda::CopyBatch& batch) {
  run_copy_scaled_tiles(batch, shape.grid[0]);
  return true;
}

bool copy_tiles_in_bulk(const cuda_double::LaunchShape& shape, const cuda::CopyBatch& batch) {
  run_copy_tiles_in_bulk(batch, shape.grid[0]);
  return true;
}

bool set_flags(const cuda_double::LaunchShape&, const cuda::SetFlags& set) {
  run_set_flags(set);
  return true;
}

bool advance_epoch(const cuda_double::LaunchShape&, const cuda::AdvanceEpoch& advance) {
  run_advance_epoch(advance);
  return true;
}

// The time that a wait may take begins when it is first looked at: until then other work of its stream was before it.
cuda_double::BoundKernel bind_wait_flags(void** arguments, const cuda_double::LaunchShape&) {
  const WaitFlags wait = *static_cast<WaitFlags*>(arguments[0]);
  return [wait, begin_ns = std::int64_t{-1}]() mutable {
    if (begin_ns < 0) begin_ns = kernel_clock_ns();
    return try_wait_flags(wait, begin_ns);
  };
}

[[maybe_unused]] const bool g_is_registered[] = {
    cuda_double::register_kernel("_ZN7reshard4cuda10copy_tilesENS0_9CopyBatchE",
                                 cuda_double::bind_arguments<copy_tiles, cuda::CopyBatch>),
    cuda_double::register_kernel("_ZN7reshard4cuda17copy_scaled_tilesENS0_9CopyBatchE",
                                 cuda_double::bind_arguments<copy_scaled_tiles, cuda::CopyBatch>),
    cuda_double::register_kernel("_ZN7reshard4cuda18copy_tiles_in_bulkENS0_9CopyBatchE",
                                 cuda_double::bind_arguments<copy_tiles_in_bulk, cuda::CopyBatch>),
    cuda_double::register_kernel("_ZN7reshard4cuda9set_flagsENS0_8SetFlagsE",
                                 cuda_double::bind_arguments<set_flags, cuda::SetFlags>),
    cuda_double::register_kernel("_ZN7reshard4cuda13advance_epochENS0_12AdvanceEpochE",
                                 cuda_double::bind_arguments<advance_epoch, cuda::AdvanceEpoch>),
    cuda_double::register_kernel("_ZN7reshard4cuda10wait_flagsENS_9WaitFlagsE", bind_wait_flags),
};

}  // namespace
}  // namespace reshard::testing
