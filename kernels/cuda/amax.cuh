// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What is made: the scales of a tile, which is a block or a number of whole ones, from their largest magnitudes.
// Mapping: the 16-byte vectors of the tile are dealt to the threads in turn, four loads under way in each; what a
// thread has found goes through shared memory to the thread that makes the scale. One block: a number for each thread.
// Several: one for each vector, of which a block has whole ones. Sources that vectors do not fit are read element by
// element. Limiter: memory; every element is read once.
#ifndef RESHARD_KERNELS_CUDA_AMAX_CUH
#define RESHARD_KERNELS_CUDA_AMAX_CUH

#include <bit>
#include <cstdint>

#include "kernels/cuda/params.h"
#include "kernels/cuda/part.cuh"
#include "kernels/scale_bits.h"
#include "kernels/tile.h"

namespace reshard::cuda {

// Magnitudes are as scale_bits.h has them: the bits of an F32, of which a NaN's are the largest.

/// Of an element.
template <int kBytes>
__device__ __forceinline__ std::uint32_t magnitude_of(std::uint32_t bits) {
  return (kBytes == 2 ? bits << 16 : bits) & ~float_bits::kF32SignBit;
}

__device__ __forceinline__ std::uint32_t larger(std::uint32_t a, std::uint32_t b) {
  return a > b ? a : b;
}

/// What is kept while vectors are looked through: a magnitude, or one for each half of the words.
template <int kBytes>
__device__ __forceinline__ std::uint32_t larger_in_words(std::uint32_t most, std::uint32_t word) {
  if constexpr (kBytes == 4) return larger(most, word & 0x7fffffffU);
  return max_bf16x2(most, word & 0x7fff7fffU);
}

template <int kBytes>
__device__ __forceinline__ std::uint32_t larger_in_vector(std::uint32_t most, const uint4& vector) {
  most = larger_in_words<kBytes>(larger_in_words<kBytes>(most, vector.x), vector.y);
  return larger_in_words<kBytes>(larger_in_words<kBytes>(most, vector.z), vector.w);
}

template <int kBytes>
__device__ __forceinline__ std::uint32_t magnitude_of_words(std::uint32_t most) {
  return kBytes == 4 ? most : larger(most << 16, most & 0xffff0000U);
}

template <int kBytes>
class ScaleMaker {
 public:
  __device__ __forceinline__ ScaleMaker(const CopyBox& box, const BoxScales& scales, const Tile& tile,
                                        SharedAddress shared)
      : box_(box), scales_(scales), tile_(tile), shared_(shared) {
    const std::uint32_t plane = tile.first_row / box.extents[1];
    const std::uint32_t row = tile.first_row - plane * box.extents[1];
    src_ = box.src + Part::at(plane, box.src_plane_stride) + Part::at(row, box.src_row_stride) +
           Part::at(tile.first_col, box.src_col_stride);
    target_ = scales.scales + Part::at(plane, scales.plane_stride) +
              Part::at(row >> scales.shifts[1], scales.row_stride) +
              Part::at(tile.first_col >> scales.shifts[0], scales.col_stride);
    block_cols_ = ((tile.num_cols - 1U) >> scales.shifts[0]) + 1;
    num_blocks_ = block_cols_ * (((tile.num_rows - 1U) >> scales.shifts[1]) + 1);
  }

  __device__ __forceinline__ void run() {
    const std::uint32_t col_bytes = (num_blocks_ == 1 ? tile_.num_cols : 1U << scales_.shifts[0]) * kBytes;
    const std::uint32_t bits = static_cast<std::uint32_t>(src_) | static_cast<std::uint32_t>(box_.src_row_stride) |
                               col_bytes | tile_.num_cols * kBytes;
    const bool has_vectors = box_.src_col_stride == kBytes && (bits & 15) == 0;
    if (num_blocks_ == 1) {
      make_one(has_vectors ? most_of_vectors() : most_of_elements());
    } else if (has_vectors) {
      make_from_vectors();
    } else {
      make_from_elements();
    }
    block_barrier();  // the next tile overwrites what is shared
  }

 private:
  static constexpr std::uint32_t kLoads = 4;
  static constexpr std::uint32_t kVector = 16 / kBytes;  // elements

  __device__ __forceinline__ SharedAddress slot(std::uint32_t index) const { return shared_ + index * 4; }

  /// Calls found(index, vector, is_active) for vectors index, index + kBlockThreads, ... of the tile.
  template <typename Found>
  __device__ __forceinline__ void for_each_vector(const Found& found) const {
    const std::uint32_t row_vectors = tile_.num_cols / kVector;
    const Divisor per_row(row_vectors);
    const std::uint32_t num_vectors = tile_.num_rows * row_vectors;
#pragma unroll 1
    for (std::uint32_t first = thread_index(); first < num_vectors; first += kLoads * kBlockThreads) {
      uint4 vectors[kLoads];
#pragma unroll
      for (std::uint32_t i = 0; i < kLoads; ++i) {
        const std::uint32_t index = first + i * kBlockThreads;
        const std::uint32_t row = per_row.quotient(index);
        const std::uint32_t offset = per_row.rest(index, row) * 16;
        // What is not loaded is zero, and no magnitude is below that.
        vectors[i] = load_if<16>(index < num_vectors, src_ + Part::at(row, box_.src_row_stride) + offset);
      }
#pragma unroll
      for (std::uint32_t i = 0; i < kLoads; ++i) {
        const std::uint32_t index = first + i * kBlockThreads;
        found(index, vectors[i], index < num_vectors);
      }
    }
  }

  __device__ __forceinline__ std::uint32_t most_of_vectors() const {
    std::uint32_t most = 0;
    for_each_vector([&](std::uint32_t, const uint4& vector, bool) { most = larger_in_vector<kBytes>(most, vector); });
    return magnitude_of_words<kBytes>(most);
  }

  __device__ __forceinline__ std::uint32_t most_of_elements() const {
    const Divisor per_row(tile_.num_cols);
    const std::uint32_t num_elements = std::uint32_t{tile_.num_rows} * tile_.num_cols;
    std::uint32_t most = 0;
#pragma unroll 1
    for (std::uint32_t index = thread_index(); index < num_elements; index += kBlockThreads) {
      const std::uint32_t row = per_row.quotient(index);
      most = larger(most, element(row, per_row.rest(index, row)));
    }
    return most;
  }

  /// Byte by byte: not all are aligned, and these are rare.
  __device__ __forceinline__ std::uint32_t element(std::uint32_t row, std::uint32_t col) const {
    const std::uint64_t from = src_ + Part::at(row, box_.src_row_stride) + Part::at(col, box_.src_col_stride);
    std::uint32_t bits = 0;
#pragma unroll 1
    for (std::uint32_t i = 0; i < kBytes; ++i) bits |= load_if<1>(true, from + i) << (8 * i);
    return magnitude_of<kBytes>(bits);
  }

  /// The block's, from each thread's.
  __device__ __forceinline__ void make_one(std::uint32_t most) {
    const std::uint32_t thread = thread_index();
    constexpr std::uint32_t kLanes = 32;
    shared_store<4>(slot(thread), most);
    block_barrier();
    if (thread < kLanes) {
#pragma unroll
      for (std::uint32_t i = kLanes; i < kBlockThreads; i += kLanes)
        most = larger(most, shared_load<4>(slot(thread + i)));
      shared_store<4>(slot(kBlockThreads + thread), most);
    }
    block_barrier();
    if (thread != 0) return;
#pragma unroll
    for (std::uint32_t i = 1; i < kLanes; ++i) most = larger(most, shared_load<4>(slot(kBlockThreads + i)));
    store(0, 0, most);
  }

  __device__ __forceinline__ void make_from_vectors() {
    for_each_vector([&](std::uint32_t index, const uint4& vector, bool is_active) {
      if (is_active) shared_store<4>(slot(index), magnitude_of_words<kBytes>(larger_in_vector<kBytes>(0, vector)));
    });
    block_barrier();
    const std::uint32_t row_vectors = tile_.num_cols / kVector;
    for_each_block(
        [&](std::uint32_t first_row, std::uint32_t num_rows, std::uint32_t first_col, std::uint32_t num_cols) {
          std::uint32_t most = 0;
#pragma unroll 1
          for (std::uint32_t row = 0; row < num_rows; ++row) {
            const std::uint32_t first = (first_row + row) * row_vectors + first_col / kVector;
#pragma unroll 4
            for (std::uint32_t i = 0; i < num_cols / kVector; ++i) most = larger(most, shared_load<4>(slot(first + i)));
          }
          return most;
        });
  }

  __device__ __forceinline__ void make_from_elements() {
    for_each_block(
        [&](std::uint32_t first_row, std::uint32_t num_rows, std::uint32_t first_col, std::uint32_t num_cols) {
          std::uint32_t most = 0;
#pragma unroll 1
          for (std::uint32_t row = 0; row < num_rows; ++row) {
#pragma unroll 1
            for (std::uint32_t col = 0; col < num_cols; ++col)
              most = larger(most, element(first_row + row, first_col + col));
          }
          return most;
        });
  }

  /// Stores the scale of what most(first row, rows, first column, columns) returns, for every block of the tile.
  template <typename Most>
  __device__ __forceinline__ void for_each_block(const Most& most) {
    const Divisor per_row(block_cols_);
#pragma unroll 1
    for (std::uint32_t index = thread_index(); index < num_blocks_; index += kBlockThreads) {
      const std::uint32_t block_row = per_row.quotient(index);
      const std::uint32_t block_col = per_row.rest(index, block_row);
      const std::uint32_t row = block_row << scales_.shifts[1];
      const std::uint32_t col = block_col << scales_.shifts[0];
      const std::uint32_t rows = smaller(1U << scales_.shifts[1], tile_.num_rows - row);
      const std::uint32_t cols = smaller(1U << scales_.shifts[0], tile_.num_cols - col);
      store(block_row, block_col, most(row, rows, col, cols));
    }
  }

  __device__ __forceinline__ static std::uint32_t smaller(std::uint32_t a, std::uint32_t b) {
    return a < b ? a : b;
  }

  __device__ __forceinline__ void store(std::uint32_t block_row, std::uint32_t block_col, std::uint32_t most) {
    const std::uint64_t address =
        target_ + Part::at(block_row, scales_.row_stride) + Part::at(block_col, scales_.col_stride);
    if (scales_.is_e8m0 != 0) {
      const bool is_up = scales_.rule == static_cast<std::uint8_t>(ScaleRule::kE8M0Up);
      store_if<1>(true, address, scale_bits::scale_e8m0(most, is_up));
    } else {
      store_if<4>(true, address, std::bit_cast<std::uint32_t>(scale_f32(most)));
    }
  }

  /// As scale_bits::scale_f32 divides.
  __device__ __forceinline__ static float scale_f32(std::uint32_t most) {
    if (most > float_bits::kF32Infinity) return std::bit_cast<float>(scale_bits::kNaNF32);
    const auto amax = std::bit_cast<float>(most);
    return divide(amax > scale_bits::kLeastAmax ? amax : scale_bits::kLeastAmax, scale_bits::kMaxE4M3);
  }

  const CopyBox& box_;
  const BoxScales& scales_;
  const Tile& tile_;
  SharedAddress shared_;
  std::uint64_t src_;
  std::uint64_t target_;
  std::uint32_t block_cols_;
  std::uint32_t num_blocks_;
};

/// `shared` has room for a number for each vector of a tile. All threads of the block take part.
__device__ __forceinline__ void make_scales(const CopyBox& box, const BoxScales& scales, const Tile& tile,
                                            SharedAddress shared) {
  if (box.src_bytes == 2) {
    ScaleMaker<2>(box, scales, tile, shared).run();
  } else {
    ScaleMaker<4>(box, scales, tile, shared).run();
  }
}

}  // namespace reshard::cuda

#endif
