// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/piece.h"
#include "kernels/scaled_piece.h"
#include "src/base/dtype.h"

namespace reshard {

/// The largest magnitude of `count` elements that lie one after another, as the bits of an F32: a NaN's are above all
/// others, zero's are 0. No alignment is needed.
using MagnitudeFn = std::uint32_t (*)(const std::byte* src, std::int64_t count);

/// The inner kernels for one instruction set. None needs alignment; no extent of a piece is zero.
///
/// A table of functions and no class with virtual ones: kernels for an instruction set replace the entries that they
/// can improve on and leave the others, and a copy that is made ready keeps the pointer and looks nothing up when it
/// runs.
struct RowKernels {
  /// Index of the float types in `convert`.
  static constexpr int kF32 = 0;
  static constexpr int kBF16 = 1;
  static constexpr int kF16 = 2;
  /// Index of an element size of 1, 2, 4, 8 or 16 bytes in `transpose` and `strided`.
  static constexpr int kElementSizes = 5;
  static int index_of_size(std::int64_t element_bytes) {
    return std::countr_zero(static_cast<std::uint64_t>(element_bytes));
  }

  PieceFn copy_cached;     ///< columns are bytes, contiguous on both sides
  PieceFn copy_streaming;  ///< the same, whole cache lines written past the cache; end with `fence`
  PieceFn fill_cached;     ///< zeros; the source is not looked at
  PieceFn fill_streaming;
  PieceFn convert[3][3];             ///< [src][dst]; columns are elements, contiguous on both sides
  PieceFn transpose[kElementSizes];  ///< columns are elements; columns contiguous in dst, rows contiguous in src
  PieceFn strided[kElementSizes];    ///< columns are elements, any strides
  ScaledPieceFn quantise[2];         ///< [src], kF32 or kBF16; to F8_E4M3
  ScaledPieceFn dequantise[2];       ///< [dst], kF32 or kBF16; from F8_E4M3
  MagnitudeFn max_magnitude[2];      ///< [src], kF32 or kBF16
  PieceFn prefetch;                  ///< columns are bytes; asks for the rows of the source, writes nothing
  void (*fence)();                   ///< makes streaming stores visible in order with what follows
};

/// Index of a type in RowKernels::convert, -1 for those that do not convert.
inline int float_index(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return RowKernels::kF32;
    case DType::kBF16:
      return RowKernels::kBF16;
    case DType::kF16:
      return RowKernels::kF16;
    default:
      return -1;
  }
}

/// Plain C++ for any processor.
const RowKernels& generic_row_kernels();

/// AVX2 + F16C; null where the processor (or the architecture compiled for) lacks them.
const RowKernels* avx2_row_kernels();

/// The best of the above on this processor.
const RowKernels& best_row_kernels();

}  // namespace reshard
