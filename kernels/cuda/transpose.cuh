// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What moves: matrices that are contiguous along rows in the source and along columns in the destination, converted or
// not; elements are aligned to their size.
// Mapping: chunks of 16 KiB of the source go through shared memory. All 256 threads read whole vectors along rows, four
// each before the first is stored, wait, and write whole vectors along columns, each warp four runs of 128 bytes.
// A vector of shared memory is stored at its index in the row of the chunk, exclusive-or'ed with the number of the
// destination's vector that its column belongs to: then neither side meets a bank twice.
// Where addresses are not aligned to vectors, that side goes element by element, still along its contiguous dim.
// Limiter: memory; for elements of one byte the instructions that gather them.
#ifndef RESHARD_KERNELS_CUDA_TRANSPOSE_CUH
#define RESHARD_KERNELS_CUDA_TRANSPOSE_CUH

#include <bit>
#include <cstdint>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/params.h"
#include "kernels/cuda/part.cuh"

namespace reshard::cuda {

template <typename Cast>
class Transposer {
 public:
  __device__ __forceinline__ Transposer(const CopyBox& box, SharedAddress shared)
      : box_(box), shared_(shared), has_wide_runs_(transpose_chunk(kSrcBytes, box.extents[1]).row_run_bytes == 256) {
    const auto src_strides = static_cast<std::uint32_t>(box.src_col_stride) |
                             static_cast<std::uint32_t>(static_cast<std::uint64_t>(box.src_plane_stride));
    const auto dst_strides = static_cast<std::uint32_t>(box.dst_row_stride) |
                             static_cast<std::uint32_t>(static_cast<std::uint64_t>(box.dst_plane_stride));
    has_src_vectors_ = ((static_cast<std::uint32_t>(box.src) | src_strides) & 15) == 0;
    has_dst_vectors_ = ((static_cast<std::uint32_t>(box.dst) | dst_strides) & 15) == 0;
  }

  /// All chunks of a tile.
  __device__ __forceinline__ void run(const Tile& tile) {
    std::uint32_t plane = tile.first_row / box_.extents[1];
    std::uint32_t first_row = tile.first_row - plane * box_.extents[1];
#pragma unroll 1
    for (std::uint32_t left = tile.num_rows; left > 0; ++plane) {
      const std::uint32_t in_plane = box_.extents[1] - first_row;
      const std::uint32_t num_rows = left < in_plane ? left : in_plane;
      run_plane(plane, first_row, num_rows, tile);
      left -= num_rows;
      first_row = 0;
    }
  }

 private:
  static constexpr int kSrcBytes = Cast::kSrcBytes;
  static constexpr int kDstBytes = Cast::kDstBytes;
  static constexpr std::uint32_t kSrcVector = 16 / kSrcBytes;  // elements
  static constexpr std::uint32_t kDstVector = 16 / kDstBytes;

  /// Runs of 256 bytes in the source, not 128.
  __device__ __forceinline__ bool is_wide() const {
    return kSrcBytes == 16 || (kSrcBytes > 1 && has_wide_runs_);  // the compiler is to know it where there is no choice
  }
  __device__ __forceinline__ std::uint32_t chunk_rows() const {
    return (is_wide() ? 256U : 128U) / kSrcBytes;
  }
  __device__ __forceinline__ std::uint32_t chunk_cols() const {
    return TransposeChunk::kBytes / (is_wide() ? 256U : 128U);
  }

  __device__ __forceinline__ void run_plane(std::uint32_t plane, std::uint32_t first_row, std::uint32_t num_rows,
                                            const Tile& tile) {
    // A tile begins at a chunk's columns and rows, so that vectors are aligned in every chunk.
#pragma unroll 1
    for (std::uint32_t row = 0; row < num_rows; row += chunk_rows()) {
#pragma unroll 1
      for (std::uint32_t col = 0; col < tile.num_cols; col += chunk_cols()) {
        num_rows_ = num_rows - row < chunk_rows() ? num_rows - row : chunk_rows();
        num_cols_ = tile.num_cols - col < chunk_cols() ? tile.num_cols - col : chunk_cols();
        const std::uint32_t r = first_row + row;
        const std::uint32_t c = tile.first_col + col;
        src_ = box_.src + Part::at(plane, box_.src_plane_stride) + Part::at(c, box_.src_col_stride) + r * kSrcBytes;
        dst_ = box_.dst + Part::at(plane, box_.dst_plane_stride) + Part::at(r, box_.dst_row_stride) + c * kDstBytes;
        load();
        block_barrier();
        store();
        block_barrier();  // the next chunk overwrites this one
      }
    }
  }

  /// Where an element lies in shared memory; its vector's offset for the first element of one.
  __device__ __forceinline__ std::uint32_t offset_of(std::uint32_t col, std::uint32_t row) const {
    const std::uint32_t byte = row * kSrcBytes;
    const std::uint32_t vector = (byte / 16) ^ (col / kDstVector % 8);
    return (col << (is_wide() ? 8 : 7)) + vector * 16 + byte % 16;
  }

  __device__ __forceinline__ void load() {
    const std::uint32_t full_rows = has_src_vectors_ ? num_rows_ & ~(kSrcVector - 1) : 0;
    if (full_rows > 0) load_vectors(full_rows);
    if (full_rows < num_rows_) load_elements(full_rows);
  }

  // All vectors of a column's run by neighbouring threads; the columns of a thread are a constant apart.
  __device__ __forceinline__ void load_vectors(std::uint32_t full_rows) {
    constexpr std::uint32_t kLoads = TransposeChunk::kBytes / 16 / kBlockThreads;
    const std::uint32_t thread = thread_index();
    const std::uint32_t shift = is_wide() ? 4 : 3;  // vectors of a run: 16 or 8
    const std::uint32_t first_col = thread >> shift;
    const std::uint32_t row = (thread & ((1U << shift) - 1)) * kSrcVector;
    const std::uint32_t col_step = kBlockThreads >> shift;
    const std::uint64_t step = Part::at(col_step, box_.src_col_stride);
    std::uint64_t address = src_ + Part::at(first_col, box_.src_col_stride) + row * kSrcBytes;
    // Not where nothing is loaded: load_elements puts the rest of the rows there, in other threads.
    const std::uint32_t end_col = row < full_rows ? num_cols_ : 0;
    uint4 words[kLoads];
#pragma unroll
    for (std::uint32_t i = 0; i < kLoads; ++i) {
      words[i] = load_if<16>(first_col + i * col_step < end_col, address);
      address += step;
    }
#pragma unroll
    for (std::uint32_t i = 0; i < kLoads; ++i) {
      const std::uint32_t col = first_col + i * col_step;
      if (col < end_col) shared_store<16>(shared_ + offset_of(col, row), words[i]);
    }
  }

  // Rows from first_row on, a column's after one another.
  __device__ __forceinline__ void load_elements(std::uint32_t first_row) {
    const std::uint32_t thread = thread_index();
    constexpr int kLoads = 4;
    const std::uint32_t rows = num_rows_ - first_row;
    const Divisor per_col(rows);
    const std::uint32_t num_elements = rows * num_cols_;
#pragma unroll 1
    for (std::uint32_t first = thread; first < num_elements; first += kLoads * kBlockThreads) {
      Word<kSrcBytes> words[kLoads];
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const std::uint32_t index = first + static_cast<std::uint32_t>(i) * kBlockThreads;
        const std::uint32_t col = per_col.quotient(index);
        const std::uint32_t row = first_row + per_col.rest(index, col);
        words[i] =
            load_if<kSrcBytes>(index < num_elements, src_ + Part::at(col, box_.src_col_stride) + row * kSrcBytes);
      }
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const std::uint32_t index = first + static_cast<std::uint32_t>(i) * kBlockThreads;
        const std::uint32_t col = per_col.quotient(index);
        const std::uint32_t row = first_row + per_col.rest(index, col);
        if (index < num_elements) shared_store<kSrcBytes>(shared_ + offset_of(col, row), words[i]);
      }
    }
  }

  __device__ __forceinline__ void store() {
    const std::uint32_t full_cols = has_dst_vectors_ ? num_cols_ & ~(kDstVector - 1) : 0;
    if (full_cols > 0) {
      if constexpr (kSrcBytes == 1) {
        store_vectors<128>(full_cols);
      } else if (is_wide()) {
        store_vectors<256>(full_cols);
      } else if constexpr (kSrcBytes < 16) {
        store_vectors<128>(full_cols);
      }
    }
    if (full_cols < num_cols_) store_elements(full_cols);
  }

  __device__ __forceinline__ Word<kSrcBytes> element(std::uint32_t offset) const {
    return shared_load<kSrcBytes>(shared_ + offset);
  }

  // A vector of the destination from elements of as many columns, which lie kRunBytes apart in shared memory.
  template <std::uint32_t kRunBytes>
  __device__ __forceinline__ uint4 gather(std::uint32_t first) const {
    if constexpr (kDstBytes == 16) {
      return element(first);
    } else if constexpr (kDstBytes == 8) {
      const std::uint64_t low = element(first);
      const std::uint64_t high = element(first + kRunBytes);
      return {static_cast<std::uint32_t>(low), static_cast<std::uint32_t>(low >> 32), static_cast<std::uint32_t>(high),
              static_cast<std::uint32_t>(high >> 32)};
    } else {
      std::uint32_t bits[kDstVector];
      std::uint32_t words[4];
#pragma unroll
      for (std::uint32_t i = 0; i < kDstVector; ++i) bits[i] = element(first + i * kRunBytes);
      Cast::pack(bits, words);
      return {words[0], words[1], words[2], words[3]};
    }
  }

  // A warp writes eight vectors of four rows at a time. A row has one, two, four or eight times eight vectors, so that
  // a thread stays in its columns.
  template <std::uint32_t kRunBytes>
  __device__ __forceinline__ void store_vectors(std::uint32_t full_cols) {
    constexpr std::uint32_t kGroups =
        TransposeChunk::kBytes / kRunBytes * kDstBytes / 128;  // of eight vectors, in a row
    constexpr std::uint32_t kRowStep = kBlockThreads / 32 / kGroups * 4;
    const std::uint32_t thread = thread_index();
    const std::uint32_t col = (thread / 32 % kGroups * 8 + thread % 8) * kDstVector;
    if (col >= full_cols) return;
    std::uint32_t row = thread / 32 / kGroups * 4 + thread / 8 % 4;
    std::uint64_t address = dst_ + Part::at(row, box_.dst_row_stride) + col * kDstBytes;
    const std::uint64_t step = Part::at(kRowStep, box_.dst_row_stride);
#pragma unroll 1
    for (; row < num_rows_; row += kRowStep) {
      store_if<16>(true, address, gather<kRunBytes>(offset_of(col, row)));
      address += step;
    }
  }

  // Columns from first_col on, a row's after one another.
  __device__ __forceinline__ void store_elements(std::uint32_t first_col) {
    const std::uint32_t thread = thread_index();
    const std::uint32_t cols = num_cols_ - first_col;
    const Divisor per_row(cols);
    const std::uint32_t num_elements = cols * num_rows_;
#pragma unroll 1
    for (std::uint32_t index = thread; index < num_elements; index += kBlockThreads) {
      const std::uint32_t row = per_row.quotient(index);
      const std::uint32_t col = first_col + per_row.rest(index, row);
      store_if<kDstBytes>(true, dst_ + Part::at(row, box_.dst_row_stride) + col * kDstBytes,
                          Cast::apply(element(offset_of(col, row))));
    }
  }

  const CopyBox& box_;
  SharedAddress shared_;
  bool has_wide_runs_;
  bool has_src_vectors_;
  bool has_dst_vectors_;
  // of the chunk at hand
  std::uint64_t src_ = 0;
  std::uint64_t dst_ = 0;
  std::uint32_t num_rows_ = 0;
  std::uint32_t num_cols_ = 0;
};

__device__ __forceinline__ void transpose(const CopyBox& box, const Tile& tile, SharedAddress shared) {
  with_cast(box, [&](auto cast) { Transposer<decltype(cast)>(box, shared).run(tile); });
}

}  // namespace reshard::cuda

#endif
