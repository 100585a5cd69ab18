// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/piece.h"
#include "kernels/scale.h"
#include "src/base/dtype.h"

namespace reshard {

/// One strided n-D copy, conversion or fill. Element i of the box lies at base + sum(i[d] * stride[d]) on each side.
/// Packing, unpacking, local moves and zero-fill are the same operation with other strides.
struct CopyOp {
  static constexpr int kMaxDims = RESHARD_MAX_DIMS;
  const void* src = nullptr;  ///< null: fill the destination with zero bytes
  void* dst = nullptr;
  DType src_dtype = DType::kU8;
  DType dst_dtype = DType::kU8;
  int num_dims = 0;                   ///< 0 moves one element
  std::int64_t shape[kMaxDims] = {};  ///< elements; a zero makes the op a no-op
  std::int64_t src_strides_bytes[kMaxDims] = {};
  std::int64_t dst_strides_bytes[kMaxDims] = {};
  CopyScales scales = {};  ///< with base: is_scalable(src_dtype, dst_dtype); else the types convert without scales
};

std::int64_t num_bytes_of(const CopyOp& op);  ///< that are written

/// Whether the types of the op go together, with or without scales; for assertions.
bool is_possible(const CopyOp& op);

/// A dim of a copy, and how its indices share scales. A dim with one scale for all has the ScaleDim {}.
struct ScaledDim : CopyDim {
  ScaleDim scale;
  bool operator==(const ScaledDim&) const = default;
};

/// The same copy in the one way to write it down: dims of extent 1 dropped, destination strides positive and ascending,
/// contiguous dims merged. Copies that do the same from their addresses on have the same dims here, so that they can
/// share what is derived from them (CopyShapes).
struct CanonicalOp {
  const std::byte* src = nullptr;  ///< null: fill
  std::byte* dst = nullptr;        ///< the lowest byte that is written
  DType src_dtype = DType::kU8;
  DType dst_dtype = DType::kU8;
  DType scale_dtype = DType::kF32;
  const std::byte* scales = nullptr;  ///< the scale of the element at src; null: there are none
  int num_dims = 0;
  ScaledDim dims[CopyOp::kMaxDims];  ///< the smallest destination stride first; of a fill both strides are equal

  bool is_scaled() const { return scales != nullptr; }
};

/// @pre no extent of the op is zero
CanonicalOp canonical(const CopyOp& op);

}  // namespace reshard
