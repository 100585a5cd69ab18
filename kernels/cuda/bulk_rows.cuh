// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What moves: long rows whose addresses and lengths are multiples of 16, by the bulk copies that compute capability 9.0
// brought (TMA): memory to shared memory and back, without registers.
// Mapping: one thread of the block has pieces of up to 4 KiB under way in the four stages of the chunk; the others
// wait. Limiter: memory, with 16 KiB under way in each block. Off until it has been measured to win (launch.h).
#ifndef RESHARD_KERNELS_CUDA_BULK_ROWS_CUH
#define RESHARD_KERNELS_CUDA_BULK_ROWS_CUH

#include <cstdint>

#include "kernels/cuda/part.cuh"
#include "kernels/tile.h"

namespace reshard::cuda {

class BulkRows {
 public:
  static constexpr std::uint32_t kStages = 4;
  static constexpr std::uint32_t kStageBytes = TransposeChunk::kBytes / kStages;
  static constexpr std::uint32_t kMinRowBytes = 2048;  // shorter pieces take longer to ask for than to move
  /// Of shared memory beside the chunk: a barrier for each stage, and how many pieces there have been.
  static constexpr std::uint32_t kStateBytes = 8 * kStages + 16;

  __device__ __forceinline__ BulkRows(SharedAddress chunk, SharedAddress state) : chunk_(chunk), state_(state) {}

  /// Once, by all threads, before anything else.
  __device__ __forceinline__ void begin() {
    if (thread_index() == 0) {
      for (std::uint32_t stage = 0; stage < kStages; ++stage) init_bulk_barrier(barrier(stage));
      shared_store<4>(count_address(), 0);
    }
    block_barrier();
  }

  __device__ __forceinline__ static bool can_move(const Part& part) {
    const std::uint32_t bits = part.src_bits() | part.dst_bits() | part.num_cols();
    return (bits & 15) == 0 && part.num_cols() >= kMinRowBytes;
  }

  /// By all threads of the block. @pre can_move(part)
  __device__ __forceinline__ void run(const Part& part) {
    block_barrier();  // nobody uses the chunk any more
    if (thread_index() == 0) move(part);
    block_barrier();
  }

 private:
  __device__ __forceinline__ SharedAddress barrier(std::uint32_t stage) const { return state_ + 8 * stage; }
  __device__ __forceinline__ SharedAddress count_address() const { return state_ + 8 * kStages; }

  // A piece of a row: where it is, and how long.
  struct Piece {
    Place place;
    std::uint32_t num_bytes;
  };
  __device__ __forceinline__ static Piece piece(const Part& part, std::uint32_t per_row, std::uint32_t index) {
    const std::uint32_t row = index / per_row;
    const std::uint32_t offset = (index - row * per_row) * kStageBytes;
    const std::uint32_t left = part.num_cols() - offset;
    const Place place = part.row(row);
    return {{place.src + offset, place.dst + offset}, left < kStageBytes ? left : kStageBytes};
  }

  __device__ __forceinline__ void load(const Piece& piece, std::uint32_t count) {
    const std::uint32_t stage = count % kStages;
    bulk_load(chunk_ + stage * kStageBytes, piece.place.src, piece.num_bytes, barrier(stage));
  }

  __device__ __forceinline__ void move(const Part& part) {
    const std::uint32_t per_row = (part.num_cols() + kStageBytes - 1) / kStageBytes;
    const std::uint32_t num_pieces = part.num_rows() * per_row;
    const std::uint32_t before = shared_load<4>(count_address());  // stages and their phases go on from the last part
    fence_bulk_shared();  // what was written to the chunk by other means comes before what bulk copies write
    for (std::uint32_t i = 0; i < kStages - 1 && i < num_pieces; ++i) load(piece(part, per_row, i), before + i);
#pragma unroll 1
    for (std::uint32_t i = 0; i < num_pieces; ++i) {
      const std::uint32_t count = before + i;
      const std::uint32_t stage = count % kStages;
      const Piece here = piece(part, per_row, i);
      wait_bulk_barrier(barrier(stage), count / kStages % 2);
      bulk_store(here.place.dst, chunk_ + stage * kStageBytes, here.num_bytes);
      if (i + kStages - 1 < num_pieces) {
        wait_bulk_reads();  // of all stores but the newest: the stage before this one is free
        load(piece(part, per_row, i + kStages - 1), count + kStages - 1);
      }
    }
    wait_bulk_writes();
    shared_store<4>(count_address(), before + num_pieces);
  }

  SharedAddress chunk_;
  SharedAddress state_;
};

}  // namespace reshard::cuda

#endif
