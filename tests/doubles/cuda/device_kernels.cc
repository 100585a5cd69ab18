// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/cuda/device_kernels.h"

#include <bit>
#include <chrono>
#include <optional>

#include "tests/doubles/cuda/device_shim.h"
// The shim comes before the kernels.
#include "kernels/cuda/copy_tiles.cuh"
#include "kernels/cuda/flags.cuh"

namespace reshard::testing {
namespace {

// Thrown out of a kernel that waits.
struct StillWaiting {};

// What the clock says when a kernel asks for the first time: when the wait began, not when it is looked at again.
thread_local std::optional<std::int64_t> t_begin_ns;

}  // namespace

void pause_kernel() {
  throw StillWaiting();
}

std::int64_t kernel_clock_ns() {
  if (t_begin_ns.has_value()) {
    const std::int64_t begin_ns = *t_begin_ns;
    t_begin_ns.reset();
    return begin_ns;
  }
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(since).count();
}

void run_copy_tiles(const cuda::CopyBatch& batch, std::uint32_t num_blocks) {
  for (std::uint32_t block = 0; block < num_blocks; ++block) {
    run_block(block, cuda::kBlockThreads, [&] { cuda::copy_tiles(batch); });
  }
}

void run_copy_scaled_tiles(const cuda::CopyBatch& batch, std::uint32_t num_blocks) {
  for (std::uint32_t block = 0; block < num_blocks; ++block) {
    run_block(block, cuda::kBlockThreads, [&] { cuda::copy_scaled_tiles(batch); });
  }
}

void run_copy_tiles_in_bulk(const cuda::CopyBatch& batch, std::uint32_t num_blocks) {
  for (std::uint32_t block = 0; block < num_blocks; ++block) {
    run_block(block, cuda::kBlockThreads, [&] { cuda::copy_tiles_in_bulk(batch); });
  }
}

std::uint32_t pack_e4m3_by_hand(const float (&values)[4]) {
  std::uint32_t signs = 0;
  for (std::uint32_t i = 0; i < 4; ++i) signs |= (std::bit_cast<std::uint32_t>(values[i]) >> 31) << (8 * i + 7);
  return cuda::pack_e4m3_by_hand(values, signs);
}

void unpack_e4m3_by_hand(std::uint32_t codes, float (&values)[4]) {
  cuda::unpack_e4m3_by_hand(codes, values);
  for (float& value : values) value *= 256.0F;
}

void run_set_flags(const cuda::SetFlags& set) {
  run_block(0, 32, [&] { cuda::set_flags(set); });
}

void run_advance_epoch(const cuda::AdvanceEpoch& advance) {
  run_block(0, 32, [&] { cuda::advance_epoch(advance); });
}

bool try_wait_flags(const WaitFlags& wait, std::int64_t begin_ns) {
  try {
    run_block(0, 32, [&] {
      t_begin_ns = begin_ns;  // of this thread's first look at the clock
      cuda::wait_flags(wait);
      t_begin_ns.reset();
    });
  } catch (const StillWaiting&) {
    t_begin_ns.reset();
    return false;
  }
  return true;
}

}  // namespace reshard::testing
