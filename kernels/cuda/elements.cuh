// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What moves: single elements with any strides and any alignment, converted or not.
// Mapping: the columns of all rows of the part are dealt to the threads in turn: columns have the smallest stride in
// the destination. Where a conversion is contiguous on both sides, eight elements at a time. Limiter: memory where
// columns are contiguous; else sectors, of which an element uses a part.
#ifndef RESHARD_KERNELS_CUDA_ELEMENTS_CUH
#define RESHARD_KERNELS_CUDA_ELEMENTS_CUH

#include <cstdint>

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/part.cuh"

namespace reshard::cuda {

inline constexpr int kElementsPerThread = 4;

/// Columns [first_col, ...) of all rows; a fill where box.src is 0.
/// @pre addresses are multiples of the elements
template <typename Cast>
__device__ __forceinline__ void move_aligned_elements(const CopyBox& box, const Part& part, std::uint32_t first_col,
                                                      const Team& team) {
  const std::uint32_t num_cols = part.num_cols() - first_col;
  if (num_cols == 0) return;
  const Divisor per_row(num_cols);
  const std::uint32_t num_elements = part.num_rows() * num_cols;
#pragma unroll 1
  for (std::uint32_t first = team.index; first < num_elements; first += kElementsPerThread * team.size) {
    Word<Cast::kSrcBytes> words[kElementsPerThread];
    std::uint64_t targets[kElementsPerThread];
#pragma unroll
    for (int i = 0; i < kElementsPerThread; ++i) {
      const std::uint32_t index = first + static_cast<std::uint32_t>(i) * team.size;
      const std::uint32_t row = per_row.quotient(index);
      const std::uint32_t col = first_col + per_row.rest(index, row);
      const Place place = part.row(row);
      const bool is_active = index < num_elements && box.src != 0;
      words[i] = load_if<Cast::kSrcBytes>(is_active, place.src + Part::at(col, box.src_col_stride));
      targets[i] = place.dst + Part::at(col, box.dst_col_stride);
    }
#pragma unroll
    for (int i = 0; i < kElementsPerThread; ++i) {
      const bool is_active = first + static_cast<std::uint32_t>(i) * team.size < num_elements;
      store_if<Cast::kDstBytes>(is_active, targets[i], Cast::apply(words[i]));
    }
  }
}

/// Byte by byte: elements that are not aligned are rare, and right is enough.
template <typename Cast>
__device__ void move_unaligned_elements(const CopyBox& box, const Part& part, const Team& team) {
  const Divisor per_row(part.num_cols());
  const std::uint32_t num_elements = part.num_rows() * part.num_cols();
#pragma unroll 1
  for (std::uint32_t index = team.index; index < num_elements; index += team.size) {
    const std::uint32_t row = per_row.quotient(index);
    const std::uint32_t col = per_row.rest(index, row);
    const Place place = part.row(row);
    const std::uint64_t from = place.src + Part::at(col, box.src_col_stride);
    const std::uint64_t to = place.dst + Part::at(col, box.dst_col_stride);
    if constexpr (Cast::kConverts) {
      std::uint32_t bits = 0;
#pragma unroll 1
      for (std::uint32_t i = 0; i < Cast::kSrcBytes; ++i) bits |= load_if<1>(true, from + i) << (8 * i);
      bits = Cast::apply(static_cast<Word<Cast::kSrcBytes>>(bits));
#pragma unroll 1
      for (std::uint32_t i = 0; i < Cast::kDstBytes; ++i) store_if<1>(true, to + i, bits >> (8 * i) & 0xff);
    } else {
#pragma unroll 1
      for (std::uint32_t i = 0; i < Cast::kDstBytes; ++i) store_if<1>(true, to + i, load_if<1>(box.src != 0, from + i));
    }
  }
}

/// Eight elements of one type, as they lie in memory, to eight of the other.
template <typename Cast>
__device__ __forceinline__ void convert_eight(const std::uint32_t (&from)[2 * Cast::kSrcBytes],
                                              std::uint32_t (&to)[2 * Cast::kDstBytes]) {
  // Two at a time: eight at once, with one look for NaNs, would take more registers than there are.
  const auto element = [&](std::uint32_t i) -> std::uint32_t {
    return Cast::kSrcBytes == 4 ? from[i] : from[i / 2] >> (16 * (i % 2)) & 0xffff;
  };
#pragma unroll
  for (std::uint32_t i = 0; i < 8; i += 2) {
    const std::uint32_t bits[2] = {element(i), element(i + 1)};
    std::uint32_t words[Cast::kDstBytes / 2];
    Cast::pack(bits, words);
    for (std::uint32_t j = 0; j < Cast::kDstBytes / 2; ++j) to[i * Cast::kDstBytes / 4 + j] = words[j];
  }
}

/// Eight elements a time, whole vectors on both sides; what is left of a row is for move_aligned_elements.
/// @pre columns are contiguous and all rows aligned to 16 bytes on both sides
template <typename Cast>
__device__ __forceinline__ void convert_vectors(const Part& part, const Team& team) {
  constexpr std::uint32_t kLoads = Cast::kSrcBytes / 2;  // of 16 bytes, for eight elements
  constexpr std::uint32_t kStores = Cast::kDstBytes / 2;
  constexpr std::uint32_t kGroups = 4 / kLoads;  // a thread has four loads under way
  const std::uint32_t row_groups = part.num_cols() / 8;
  if (row_groups == 0) return;
  const Divisor per_row(row_groups);
  const std::uint32_t num_groups = part.num_rows() * row_groups;
#pragma unroll 1
  for (std::uint32_t first = team.index; first < num_groups; first += kGroups * team.size) {
    std::uint32_t words[kGroups][4 * kLoads];
    std::uint64_t targets[kGroups];
#pragma unroll
    for (std::uint32_t i = 0; i < kGroups; ++i) {
      const std::uint32_t index = first + i * team.size;
      const std::uint32_t row = per_row.quotient(index);
      const std::uint32_t col = per_row.rest(index, row) * 8;
      const Place place = part.row(row);
#pragma unroll
      for (std::uint32_t j = 0; j < kLoads; ++j) {
        const uint4 word = load_if<16>(index < num_groups, place.src + col * Cast::kSrcBytes + j * 16);
        words[i][4 * j] = word.x;
        words[i][4 * j + 1] = word.y;
        words[i][4 * j + 2] = word.z;
        words[i][4 * j + 3] = word.w;
      }
      targets[i] = place.dst + col * Cast::kDstBytes;
    }
#pragma unroll
    for (std::uint32_t i = 0; i < kGroups; ++i) {
      const bool is_active = first + i * team.size < num_groups;
      std::uint32_t converted[4 * kStores];
      convert_eight<Cast>(words[i], converted);
#pragma unroll
      for (std::uint32_t j = 0; j < kStores; ++j) {
        const uint4 word = {converted[4 * j], converted[4 * j + 1], converted[4 * j + 2], converted[4 * j + 3]};
        store_if<16>(is_active, targets[i] + j * 16, word);
      }
    }
  }
}

template <typename Cast>
__device__ __forceinline__ void move_elements_of(const CopyBox& box, const Part& part, const Team& team) {
  const std::uint32_t src_bits = part.src_bits() | static_cast<std::uint32_t>(box.src_col_stride);
  const std::uint32_t dst_bits = part.dst_bits() | static_cast<std::uint32_t>(box.dst_col_stride);
  if ((src_bits & (Cast::kSrcBytes - 1)) != 0 || (dst_bits & (Cast::kDstBytes - 1)) != 0) {
    return move_unaligned_elements<Cast>(box, part, team);
  }
  std::uint32_t num_done = 0;
  if constexpr (Cast::kConverts) {
    const bool is_contiguous = box.src_col_stride == Cast::kSrcBytes && box.dst_col_stride == Cast::kDstBytes;
    if (is_contiguous && ((part.src_bits() | part.dst_bits()) & 15) == 0) {
      convert_vectors<Cast>(part, team);
      num_done = part.num_cols() & ~7U;
    }
  }
  move_aligned_elements<Cast>(box, part, num_done, team);
}

__device__ __forceinline__ void move_elements(const CopyBox& box, const Part& part, const Team& team) {
  with_cast(box, [&](auto cast) { move_elements_of<decltype(cast)>(box, part, team); });
}

}  // namespace reshard::cuda

#endif
