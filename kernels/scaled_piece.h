// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/piece.h"
#include "kernels/scale.h"
#include "kernels/scale_bits.h"

namespace reshard {

/// A piece whose elements have scales; columns are elements.
struct ScaledPiece {
  Piece piece;
  const std::byte* scales = nullptr;  ///< the scale of the first column of the first row
  DType scale_dtype = DType::kF32;
  ScaleDim cols;
  ScaleDim rows;
};

/// Quantises or dequantises a piece whose columns are contiguous on both sides, without need of alignment; scales are
/// aligned. The thread is in IeeeMode.
using ScaledPieceFn = void (*)(const ScaledPiece&);

inline float load_scale(const std::byte* scale, DType dtype) {
  if (dtype == DType::kF32) return *reinterpret_cast<const float*>(scale);
  return scale_bits::f32_from_e8m0(static_cast<std::uint8_t>(*scale));
}

/// Calls run(src, dst, count, scale) for the runs of columns that share a scale.
template <std::int64_t kSrcBytes, std::int64_t kDstBytes, typename Run>
inline __attribute__((always_inline)) void for_each_run(const ScaledPiece& scaled, const Run& run) {
  const Piece& piece = scaled.piece;
  const bool has_one = scaled.cols.stride_bytes == 0;
  for (std::int64_t row = 0; row < piece.rows.extent; ++row) {
    const std::byte* src = piece.src + row * piece.rows.src_stride;
    std::byte* dst = piece.dst + row * piece.rows.dst_stride;
    const std::byte* scale = scaled.scales + (scaled.rows.offset + row) / scaled.rows.block * scaled.rows.stride_bytes;
    std::int64_t left = piece.cols.extent;
    std::int64_t count = has_one ? left : std::min(left, scaled.cols.block - scaled.cols.offset);
    while (left > 0) {
      run(src, dst, count, load_scale(scale, scaled.scale_dtype));
      src += count * kSrcBytes;
      dst += count * kDstBytes;
      scale += scaled.cols.stride_bytes;
      left -= count;
      count = std::min(left, scaled.cols.block);
    }
  }
}

}  // namespace reshard
