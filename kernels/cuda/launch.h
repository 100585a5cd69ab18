// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What runs on a CUDA device, seen from plain C++: no CUDA header, a stream is a void* (cudaStream_t, null: the default
// stream of the calling thread's current device). Nothing here waits, allocates or synchronises. A launch that fails
// leaves nothing running and gives RESHARD_ERR_TRANSPORT with CUDA's own words; without a driver, and in a build
// without CUDA, RESHARD_ERR_NOT_SUPPORTED.
#pragma once

#include <cstdint>

#include "kernels/tile_table.h"
#include "src/base/status.h"

namespace reshard {

/// Thread blocks of copies that fit on one multiprocessor at a time: more of them wait, fewer leave it idle.
inline constexpr int kCopyBlocksPerMultiprocessor = 4;

/// Likewise of batches that quantise, dequantise or make scales.
inline constexpr int kScaledBlocksPerMultiprocessor = 3;

/// Moves all tiles of a batch with one launch on `num_blocks` thread blocks (at least 1; a batch of fewer tiles takes
/// as many blocks as it has tiles). The whole device: its number of multiprocessors * kCopyBlocksPerMultiprocessor;
/// of a batch with scales as many blocks are taken as are then resident.
/// `table` stays as it is until the stream has passed the launch. An empty batch launches nothing.
Status launch_copies(const DeviceTable& table, const TileRange& batch, int num_blocks, void* stream);

/// The same, with the bulk copies of compute capability 9.0 (TMA) for rows of 2 KiB and more, and as above on older
/// devices and for batches with scales. Not used until it has been measured to be faster.
Status launch_copies_in_bulk(const DeviceTable& table, const TileRange& batch, int num_blocks, void* stream);

/// What a launch_wait_flags ended with, written to WaitFlags::outcome.
enum class FlagOutcome : std::uint32_t {
  kPending = 0,   ///< it has not ended
  kArrived = 1,   ///< every flag has reached the epoch
  kTimedOut = 2,  ///< after timeout_ns on the device's clock
  kAborted = 3,   ///< *abort_word became non-zero
};

/// Flags are 64-bit words in memory that the waiting and the setting device both see. They only grow; a flag has
/// arrived when it is at least the epoch. The epoch lies in device memory, so that a captured launch finds a new one in
/// each run.
struct WaitFlags {
  const std::uint64_t* const* flags = nullptr;  ///< device memory: addresses of num_flags flags
  std::int64_t num_flags = 0;
  const std::uint64_t* epoch = nullptr;       ///< device memory
  const std::uint32_t* abort_word = nullptr;  ///< pinned host memory; non-zero: give up
  std::uint32_t* outcome = nullptr;           ///< pinned host memory, a FlagOutcome; set to kPending by the caller
  std::int64_t timeout_ns = 0;
};

/// Holds the stream (one warp) until all flags have arrived, the time is over, or the host says so. What other devices
/// wrote before they set their flags is visible to what follows on the stream.
Status launch_wait_flags(const WaitFlags& wait, void* stream);

/// Sets `num_flags` flags to *epoch after all that the stream holds; whoever sees the flag sees that, too.
/// `flags` is device memory with the flags' addresses, which may be memory of mapped peers.
Status launch_set_flags(std::uint64_t* const* flags, std::int64_t num_flags, const std::uint64_t* epoch, void* stream);

/// Begins the next epoch: *epoch grows by one when the stream comes here, so that a captured launch counts each run
/// that it is part of. *mirror, pinned host memory, becomes the same number.
Status launch_advance_epoch(std::uint64_t* epoch, std::uint64_t* mirror, void* stream);

}  // namespace reshard
