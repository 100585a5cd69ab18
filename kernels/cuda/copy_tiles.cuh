// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What moves: one batch of copies, of all kinds.
// Mapping: thread blocks of 256 threads get contiguous ranges of tiles, whose numbers differ by at most one.
#ifndef RESHARD_KERNELS_CUDA_COPY_TILES_CUH
#define RESHARD_KERNELS_CUDA_COPY_TILES_CUH

#include <cstdint>

#include "kernels/cuda/amax.cuh"
#include "kernels/cuda/bulk_rows.cuh"
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/params.h"
#include "kernels/cuda/part.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/scaled.cuh"
#include "kernels/cuda/transpose.cuh"
#include "kernels/tile.h"

namespace reshard::cuda {

/// The record behind a box.
__device__ __forceinline__ const BoxScales& scales_of(const CopyBox& box) {
  return reinterpret_cast<const BoxScales*>(&box)[1];
}

__device__ __forceinline__ void move_part(const CopyBox& box, const Part& part, const Team& team) {
  switch (box.kind) {
    case BoxKind::kRows:
      return move_rows<false>(part, team);
    case BoxKind::kFill:
      return move_rows<true>(part, team);
    default:
      return move_elements(box, part, team);
  }
}

/// Box number `index` of a tile: the one that the block moves a part of, or one of the small ones that a warp moves
/// whole. Both take the same code, which is long.
template <bool kHasScales>
__device__ __forceinline__ void move_box(const CopyBatch& batch, const Tile& tile, std::uint32_t index,
                                         SharedAddress shared) {
  const CopyBox& box = batch.boxes[tile.record(index)];
  // Never in a group: they have barriers.
  if (box.kind == BoxKind::kTranspose) return transpose(box, tile, shared);
  if constexpr (kHasScales) {
    if (box.kind == BoxKind::kAmax) return make_scales(box, scales_of(box), tile, shared);
  }
  const bool is_group = tile.is_group();
  const std::uint32_t first_row = is_group ? 0 : tile.first_row;
  const std::uint32_t num_rows = is_group ? box.extents[1] * box.extents[2] : tile.num_rows;
  const std::uint32_t first_col = is_group ? 0 : tile.first_col;
  const std::uint32_t num_cols = is_group ? box.extents[0] : tile.num_cols;
  const Team team = is_group ? Team{thread_index() % 32, 32} : Team{thread_index(), kBlockThreads};
  if constexpr (kHasScales) {
    if (box.kind == BoxKind::kScaled) {
      return move_scaled(box, scales_of(box), first_row, num_rows, first_col, num_cols, team);
    }
  }
  move_part(box, Part(box, first_row, num_rows, first_col, num_cols), team);
}

/// What a thread keeps from one box to the next. In shared memory, because the copies need all registers: a counter
/// that had none would go to local memory, in the same way but slower.
class Progress {
 public:
  static constexpr std::uint32_t kBytes = 2 * sizeof(std::uint32_t) * kBlockThreads;

  __device__ __forceinline__ explicit Progress(SharedAddress shared) : shared_(shared) {}

  __device__ __forceinline__ std::uint32_t tile() const { return shared_load<4>(shared_ + slot(0)); }
  __device__ __forceinline__ std::uint32_t box() const { return shared_load<4>(shared_ + slot(1)); }
  __device__ __forceinline__ void set_tile(std::uint32_t tile) { shared_store<4>(shared_ + slot(0), tile); }
  __device__ __forceinline__ void set_box(std::uint32_t box) { shared_store<4>(shared_ + slot(1), box); }

 private:
  __device__ __forceinline__ static std::uint32_t slot(std::uint32_t value) {
    return (value * kBlockThreads + thread_index()) * sizeof(std::uint32_t);
  }

  SharedAddress shared_;
};

inline constexpr std::uint32_t kSharedBytes = TransposeChunk::kBytes + Progress::kBytes;

/// All tiles of the thread block. @pre `memory` has kSharedBytes
template <bool kHasScales>
__device__ __forceinline__ void move_tiles(const CopyBatch& batch, unsigned char* memory) {
  const SharedAddress shared = shared_address(memory);
  Progress progress(shared_address(memory + TransposeChunk::kBytes));
  progress.set_tile(batch.first_tile(block_index()));
#pragma unroll 1
  while (progress.tile() < batch.first_tile(block_index() + 1)) {
    const Tile& first = batch.tiles[progress.tile()];
    progress.set_box(first.is_group() ? thread_index() / 32 : 0);
#pragma unroll 1
    while (progress.box() < batch.tiles[progress.tile()].num_boxes()) {
      move_box<kHasScales>(batch, batch.tiles[progress.tile()], progress.box(), shared);
      forget_memory();
      progress.set_box(progress.box() + kBlockThreads / 32);
    }
    progress.set_tile(progress.tile() + 1);
  }
}

// Four blocks a multiprocessor, with the four 16-byte loads of each thread: 64 KiB under way.
__global__ void __launch_bounds__(256, kCopyBlocksPerMultiprocessor) copy_tiles(CopyBatch batch) {
  __shared__ __align__(128) unsigned char shared[kSharedBytes];
  move_tiles<false>(batch, shared);
}

// Batches in which there are scales, of which quantising needs more registers: three blocks, 48 KiB under way. A third
// or more of the traffic is stores.
__global__ void __launch_bounds__(256, kScaledBlocksPerMultiprocessor) copy_scaled_tiles(CopyBatch batch) {
  __shared__ __align__(128) unsigned char shared[kSharedBytes];
  move_tiles<true>(batch, shared);
}

/// The part of a tile that bulk copies can move, if it is one.
__device__ __forceinline__ bool move_in_bulk(const CopyBatch& batch, const Tile& tile, BulkRows* bulk) {
  if (tile.is_group()) return false;
  const CopyBox& box = batch.boxes[tile.box];
  if (box.kind != BoxKind::kRows) return false;
  const Part part(box, tile.first_row, tile.num_rows, tile.first_col, tile.num_cols);
  if (!BulkRows::can_move(part)) return false;
  bulk->run(part);
  return true;
}

// The same with bulk copies for long rows, where there are such; a launch of this instead is the switch.
__global__ void __launch_bounds__(256, kCopyBlocksPerMultiprocessor) copy_tiles_in_bulk(CopyBatch batch) {
  __shared__ __align__(128) unsigned char shared[kSharedBytes + BulkRows::kStateBytes];
  Progress progress(shared_address(shared + TransposeChunk::kBytes));
  BulkRows bulk(shared_address(shared), shared_address(shared + kSharedBytes));
  if constexpr (kHasBulkCopies) bulk.begin();
  progress.set_tile(batch.first_tile(block_index()));
#pragma unroll 1
  while (progress.tile() < batch.first_tile(block_index() + 1)) {
    const Tile& first = batch.tiles[progress.tile()];
    bool is_done = false;
    if constexpr (kHasBulkCopies) is_done = move_in_bulk(batch, first, &bulk);
    progress.set_box(first.is_group() ? thread_index() / 32 : 0);
#pragma unroll 1
    while (!is_done && progress.box() < batch.tiles[progress.tile()].num_boxes()) {
      move_box<false>(batch, batch.tiles[progress.tile()], progress.box(), shared_address(shared));
      forget_memory();
      progress.set_box(progress.box() + kBlockThreads / 32);
    }
    progress.set_tile(progress.tile() + 1);
  }
}

}  // namespace reshard::cuda

#endif
