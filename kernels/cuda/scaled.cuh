// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What moves: elements that are quantised or dequantised, any strides, any alignment, blocks of any power of two.
// Mapping: the columns of all rows of the part are dealt to the threads in turn. Where both sides are contiguous,
// aligned and cut by blocks at whole groups, a thread takes groups of elements with one scale: it quantises 16 of them
// from two or four loads of 16 bytes into one store, or dequantises what makes one store of 16 bytes. Else one element
// a time. Limiter: memory. Loads of one thread side by side touch their sectors twice, the second time in the
// first-level cache.
#ifndef RESHARD_KERNELS_CUDA_SCALED_CUH
#define RESHARD_KERNELS_CUDA_SCALED_CUH

#include <bit>
#include <cstdint>

#include "kernels/cuda/e4m3.cuh"
#include "kernels/cuda/part.cuh"
#include "kernels/scale_bits.h"
#include "kernels/tile.h"

namespace reshard::cuda {

/// Rows of a box, and where their scales lie. All numbers that a loop needs, so that it looks into no table.
class ScaledRows {
 public:
  __device__ __forceinline__ ScaledRows(const CopyBox& box, const BoxScales& scales, std::uint32_t first_row,
                                        std::uint32_t num_rows, std::uint32_t first_col, std::uint32_t num_cols)
      : src_(box.src + Part::at(first_row, box.src_row_stride) + Part::at(first_col, box.src_col_stride)),
        dst_(box.dst + Part::at(first_row, box.dst_row_stride) + Part::at(first_col, box.dst_col_stride)),
        scales_(scales.scales),
        num_rows_(num_rows),
        num_cols_(num_cols),
        src_row_stride_(box.src_row_stride),
        dst_row_stride_(box.dst_row_stride),
        scale_row_stride_(scales.row_stride),
        scale_col_stride_(scales.col_stride),
        first_row_(scales.offsets[1] + first_row),
        first_col_(scales.offsets[0] + first_col),
        row_shift_(scales.shifts[1]),
        col_shift_(scales.shifts[0]) {}

  __device__ __forceinline__ std::uint32_t num_rows() const { return num_rows_; }
  __device__ __forceinline__ std::uint32_t num_cols() const { return num_cols_; }

  /// The first column of a row.
  __device__ __forceinline__ Place row(std::uint32_t index) const {
    return {src_ + Part::at(index, src_row_stride_), dst_ + Part::at(index, dst_row_stride_)};
  }

  __device__ __forceinline__ std::uint64_t scale(std::uint32_t row, std::uint32_t col) const {
    return scales_ + Part::at((first_row_ + row) >> row_shift_, scale_row_stride_) +
           Part::at((first_col_ + col) >> col_shift_, scale_col_stride_);
  }

  /// Numbers that have a bit set below any power of two that the addresses of all rows are not multiples of.
  __device__ __forceinline__ std::uint32_t src_bits() const {
    return static_cast<std::uint32_t>(src_) | static_cast<std::uint32_t>(src_row_stride_);
  }
  __device__ __forceinline__ std::uint32_t dst_bits() const {
    return static_cast<std::uint32_t>(dst_) | static_cast<std::uint32_t>(dst_row_stride_);
  }

  /// Whether columns [col, col + count) have one scale for every multiple `col` of `count`, a power of two.
  __device__ __forceinline__ bool has_one_for(std::uint32_t count) const {
    return scale_col_stride_ == 0 || ((first_col_ | 1U << col_shift_) & (count - 1)) == 0;
  }

 private:
  std::uint64_t src_;
  std::uint64_t dst_;
  std::uint64_t scales_;
  std::uint32_t num_rows_;
  std::uint32_t num_cols_;
  std::int32_t src_row_stride_;
  std::int32_t dst_row_stride_;
  std::int32_t scale_row_stride_;
  std::int32_t scale_col_stride_;
  std::uint32_t first_row_;
  std::uint32_t first_col_;
  std::uint32_t row_shift_;
  std::uint32_t col_shift_;
};

/// A type of scales: how the bits that are loaded become a scale or its reciprocal.
struct F32Scale {
  static constexpr int kBytes = 4;
  __device__ __forceinline__ static float scale(std::uint32_t bits) { return std::bit_cast<float>(bits); }
  __device__ __forceinline__ static float reciprocal_of(std::uint32_t bits) { return reciprocal(scale(bits)); }
};

struct E8M0Scale {
  static constexpr int kBytes = 1;
  __device__ __forceinline__ static float scale(std::uint32_t code) {
    return scale_bits::f32_from_e8m0(static_cast<std::uint8_t>(code));
  }
  /// 2^(127 - code) is the power of code 254 - code, exactly: no division.
  __device__ __forceinline__ static float reciprocal_of(std::uint32_t code) {
    return scale(code == scale_bits::kNaNE8M0 ? code : 254 - code);
  }
};

/// F8_E4M3 from a wide type.
template <FloatType kWide>
struct Quantise {
  static constexpr int kSrcBytes = kWide == FloatType::kF32 ? 4 : 2;
  static constexpr int kDstBytes = 1;
  static constexpr std::uint32_t kGroup = 16;  // elements

  /// What the bits of a scale are made into, once for a group.
  template <typename Scale>
  __device__ __forceinline__ static float factor(std::uint32_t bits) {
    return Scale::reciprocal_of(bits);
  }

  __device__ __forceinline__ static float widen(std::uint32_t bits) {
    return std::bit_cast<float>(kWide == FloatType::kF32 ? bits : bits << 16);
  }
  __device__ __forceinline__ static std::uint32_t apply(Word<kSrcBytes> bits, float factor) {
    const float value = multiply(widen(bits), factor);
    const float values[4] = {value, value, value, value};
    const std::uint32_t sign = std::bit_cast<std::uint32_t>(value) >> 24;
    return is_any_nan(value, value) ? scale_bits::kNaNE4M3 : pack_e4m3(values, sign) & 0xff;
  }

  /// Element `i` of words as they lie in memory, times the factor.
  template <std::uint32_t kWords>
  __device__ __forceinline__ static float product(const std::uint32_t (&from)[kWords], std::uint32_t i, float factor) {
    if constexpr (kWide == FloatType::kF32) return multiply(std::bit_cast<float>(from[i]), factor);
    const std::uint32_t word = from[i / 2];
    return multiply(std::bit_cast<float>(i % 2 == 0 ? word << 16 : word & 0xffff0000U), factor);
  }

  /// The upper bytes of elements 4 * i and on, which begin with their signs.
  template <std::uint32_t kWords>
  __device__ __forceinline__ static std::uint32_t upper_bytes(const std::uint32_t (&from)[kWords], std::uint32_t i) {
    if constexpr (kWide == FloatType::kBF16) return permute(from[2 * i], from[2 * i + 1], 0x7531);
    return permute(permute(from[4 * i], from[4 * i + 1], 0x0073), permute(from[4 * i + 2], from[4 * i + 3], 0x0073),
                   0x5410);
  }

  __device__ __forceinline__ static void apply_group(const std::uint32_t (&from)[kGroup * kSrcBytes / 4], float factor,
                                                     std::uint32_t (&to)[kGroup / 4]) {
    // Of a factor below zero all signs are turned.
    const auto turned = static_cast<std::uint32_t>(std::bit_cast<std::int32_t>(factor) >> 31);
    std::uint32_t has_nan = 0;
#pragma unroll
    for (std::uint32_t i = 0; i < kGroup / 4; ++i) {
      float values[4];
#pragma unroll
      for (std::uint32_t j = 0; j < 4; ++j) values[j] = product(from, 4 * i + j, factor);
      has_nan |= is_any_nan(values) ? 1U : 0U;
      to[i] = pack_e4m3(values, upper_bytes(from, i) ^ turned);
    }
    if (has_nan != 0) {
#pragma unroll
      for (std::uint32_t i = 0; i < kGroup; ++i) {
        const float value = product(from, i, factor);
        const std::uint32_t shift = i % 4 * 8;
        if (is_any_nan(value, value))
          to[i / 4] = (to[i / 4] & ~(0xffU << shift)) | std::uint32_t{scale_bits::kNaNE4M3} << shift;
      }
    }
  }
};

/// A wide type from F8_E4M3.
template <FloatType kWide>
struct Dequantise {
  static constexpr int kSrcBytes = 1;
  static constexpr int kDstBytes = kWide == FloatType::kF32 ? 4 : 2;
  static constexpr std::uint32_t kGroup = 16 / kDstBytes;

  template <typename Scale>
  __device__ __forceinline__ static float factor(std::uint32_t bits) {
    return Scale::scale(bits);
  }

  __device__ __forceinline__ static Word<kDstBytes> apply(Word<1> code, float scale) {
    float values[4];
    unpack_e4m3(code, values);
    const float value = multiply(multiply(values[0], kUnpacked), scale);
    const bool is_nan = nan_bits_of_codes(code) != 0 || is_any_nan(value, value);
    if constexpr (kWide == FloatType::kF32) return is_nan ? scale_bits::kNaNF32 : std::bit_cast<std::uint32_t>(value);
    return static_cast<Word<kDstBytes>>(is_nan ? scale_bits::kNaNBF16 : pack_bf16(value, value) & 0xffff);
  }

  __device__ __forceinline__ static void apply_group(const std::uint32_t (&from)[kGroup / 4], float scale,
                                                     std::uint32_t (&to)[4]) {
    // A product is a NaN if the code is, or the scale, or if the scale is infinite and the code zero. The scale takes
    // in what values are divided by, which is exact, but for the largest.
    const float factor = multiply(scale, kUnpacked);
    std::uint32_t is_odd = is_finite(factor) ? 0U : 1U;
#pragma unroll
    for (std::uint32_t i = 0; i < kGroup / 4; ++i) {
      float values[4];
      unpack_e4m3(from[i], values);
      is_odd |= nan_bits_of_codes(from[i]);
#pragma unroll
      for (std::uint32_t j = 0; j < 4; ++j) values[j] = multiply(values[j], factor);
      if constexpr (kWide == FloatType::kF32) {
#pragma unroll
        for (std::uint32_t j = 0; j < 4; ++j) to[j] = std::bit_cast<std::uint32_t>(values[j]);
      } else {
        to[2 * i] = pack_bf16(values[0], values[1]);
        to[2 * i + 1] = pack_bf16(values[2], values[3]);
      }
    }
    if (is_odd != 0) {
#pragma unroll
      for (std::uint32_t i = 0; i < kGroup; ++i) {
        const std::uint32_t bits = apply(from[i / 4] >> (i % 4 * 8) & 0xff, scale);
        if constexpr (kWide == FloatType::kF32) to[i] = bits;
        if constexpr (kWide == FloatType::kBF16) {
          const std::uint32_t shift = i % 2 * 16;
          to[i / 2] = (to[i / 2] & ~(0xffffU << shift)) | bits << shift;
        }
      }
    }
  }
};

/// A group's bytes, in as few loads as there can be.
template <std::uint32_t kBytes>
__device__ __forceinline__ void load_group(std::uint64_t from, std::uint32_t (&words)[kBytes / 4]) {
  if constexpr (kBytes == 4) {
    words[0] = load_if<4>(true, from);
  } else if constexpr (kBytes == 8) {
    const std::uint64_t word = load_if<8>(true, from);
    words[0] = static_cast<std::uint32_t>(word);
    words[1] = static_cast<std::uint32_t>(word >> 32);
  } else {
#pragma unroll
    for (std::uint32_t j = 0; j < kBytes / 16; ++j) {
      const uint4 word = load_if<16>(true, from + j * 16);
      words[4 * j] = word.x;
      words[4 * j + 1] = word.y;
      words[4 * j + 2] = word.z;
      words[4 * j + 3] = word.w;
    }
  }
}

/// Whole groups, each of which ends in one store of 16 bytes; what is left of a row is for scale_elements.
/// @pre columns are contiguous, rows aligned to a group on both sides, and no group has two scales
template <typename Op, typename Scale>
__device__ __forceinline__ void scale_groups(const ScaledRows& rows, const Team& team) {
  constexpr std::uint32_t kBytes = Op::kGroup * Op::kSrcBytes;
  constexpr std::uint32_t kGroups = kBytes > 16 ? 64 / kBytes : 4;  // a thread has four loads under way
  const std::uint32_t row_groups = rows.num_cols() / Op::kGroup;
  if (row_groups == 0) return;
  const Divisor per_row(row_groups);
  const std::uint32_t num_groups = rows.num_rows() * row_groups;
#pragma unroll 1
  for (std::uint32_t first = team.index; first < num_groups; first += kGroups * team.size) {
    std::uint32_t words[kGroups][kBytes / 4];
    std::uint64_t targets[kGroups];
    std::uint32_t scales[kGroups];
#pragma unroll
    for (std::uint32_t i = 0; i < kGroups; ++i) {
      // Who has none loads the last one again: that takes fewer instructions than to load nothing.
      const std::uint32_t mine = first + i * team.size;
      const std::uint32_t index = mine < num_groups ? mine : num_groups - 1;
      const std::uint32_t row = per_row.quotient(index);
      const std::uint32_t col = per_row.rest(index, row) * Op::kGroup;
      const Place place = rows.row(row);
      load_group<kBytes>(place.src + col * Op::kSrcBytes, words[i]);
      scales[i] = load_if<Scale::kBytes>(true, rows.scale(row, col));
      targets[i] = place.dst + col * Op::kDstBytes;
    }
#pragma unroll
    for (std::uint32_t i = 0; i < kGroups; ++i) {
      std::uint32_t to[4];
      Op::apply_group(words[i], Op::template factor<Scale>(scales[i]), to);
      store_if<16>(first + i * team.size < num_groups, targets[i], {to[0], to[1], to[2], to[3]});
    }
  }
}

/// An element or its bytes, one after another where they are not aligned.
template <int kBytes>
__device__ __forceinline__ std::uint32_t load_element(bool is_aligned, std::uint64_t from) {
  if (is_aligned) return load_if<kBytes>(true, from);
  std::uint32_t bits = 0;
#pragma unroll 1
  for (std::uint32_t i = 0; i < kBytes; ++i) bits |= load_if<1>(true, from + i) << (8 * i);
  return bits;
}
template <int kBytes>
__device__ __forceinline__ void store_element(bool is_aligned, std::uint64_t to, std::uint32_t bits) {
  if (is_aligned) return store_if<kBytes>(true, to, static_cast<Word<kBytes>>(bits));
#pragma unroll 1
  for (std::uint32_t i = 0; i < kBytes; ++i) store_if<1>(true, to + i, bits >> (8 * i) & 0xff);
}

/// Columns [first_col, ...) of all rows, an element a time: what is left over, or does not fit groups, or is not
/// aligned.
template <typename Op, typename Scale>
__device__ __forceinline__ void scale_elements(const CopyBox& box, const ScaledRows& rows, std::uint32_t first_col,
                                               const Team& team) {
  const std::uint32_t num_cols = rows.num_cols() - first_col;
  if (num_cols == 0) return;
  const std::uint32_t src_bits = rows.src_bits() | static_cast<std::uint32_t>(box.src_col_stride);
  const std::uint32_t dst_bits = rows.dst_bits() | static_cast<std::uint32_t>(box.dst_col_stride);
  const bool is_src_aligned = (src_bits & (Op::kSrcBytes - 1)) == 0;
  const bool is_dst_aligned = (dst_bits & (Op::kDstBytes - 1)) == 0;
  const Divisor per_row(num_cols);
  const std::uint32_t num_elements = rows.num_rows() * num_cols;
#pragma unroll 1
  for (std::uint32_t index = team.index; index < num_elements; index += team.size) {
    const std::uint32_t row = per_row.quotient(index);
    const std::uint32_t col = first_col + per_row.rest(index, row);
    const Place place = rows.row(row);
    const std::uint32_t bits =
        load_element<Op::kSrcBytes>(is_src_aligned, place.src + Part::at(col, box.src_col_stride));
    const float factor = Op::template factor<Scale>(load_if<Scale::kBytes>(true, rows.scale(row, col)));
    store_element<Op::kDstBytes>(is_dst_aligned, place.dst + Part::at(col, box.dst_col_stride),
                                 Op::apply(static_cast<Word<Op::kSrcBytes>>(bits), factor));
  }
}

template <typename Op, typename Scale>
__device__ __forceinline__ void move_scaled_rows(const CopyBox& box, const ScaledRows& rows, const Team& team) {
  constexpr std::uint32_t kLoadBytes = Op::kGroup * Op::kSrcBytes < 16 ? Op::kGroup * Op::kSrcBytes : 16;
  const bool is_contiguous = box.src_col_stride == Op::kSrcBytes && box.dst_col_stride == Op::kDstBytes;
  const bool is_aligned = (rows.src_bits() & (kLoadBytes - 1)) == 0 && (rows.dst_bits() & 15) == 0;
  std::uint32_t num_done = 0;
  if (is_contiguous && is_aligned && rows.has_one_for(Op::kGroup)) {
    scale_groups<Op, Scale>(rows, team);
    num_done = rows.num_cols() & ~(Op::kGroup - 1);
  }
  scale_elements<Op, Scale>(box, rows, num_done, team);
}

template <typename Scale>
__device__ __forceinline__ void move_scaled_rows_of(const CopyBox& box, const ScaledRows& rows, const Team& team) {
  switch (box.types) {
    case CopyBox::types_of(FloatType::kBF16, FloatType::kF8E4M3):
      return move_scaled_rows<Quantise<FloatType::kBF16>, Scale>(box, rows, team);
    case CopyBox::types_of(FloatType::kF32, FloatType::kF8E4M3):
      return move_scaled_rows<Quantise<FloatType::kF32>, Scale>(box, rows, team);
    case CopyBox::types_of(FloatType::kF8E4M3, FloatType::kBF16):
      return move_scaled_rows<Dequantise<FloatType::kBF16>, Scale>(box, rows, team);
    default:
      return move_scaled_rows<Dequantise<FloatType::kF32>, Scale>(box, rows, team);
  }
}

/// A rectangle of a box, which has one plane. `scales` is the record behind the box.
__device__ __forceinline__ void move_scaled(const CopyBox& box, const BoxScales& scales, std::uint32_t first_row,
                                            std::uint32_t num_rows, std::uint32_t first_col, std::uint32_t num_cols,
                                            const Team& team) {
  const ScaledRows rows(box, scales, first_row, num_rows, first_col, num_cols);
  if (scales.is_e8m0 != 0) {
    move_scaled_rows_of<E8M0Scale>(box, rows, team);
  } else {
    move_scaled_rows_of<F32Scale>(box, rows, team);
  }
}

}  // namespace reshard::cuda

#endif
