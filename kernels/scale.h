// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// How copies name the scales of quantised tensors. A stored element q of type F8_E4M3 stands for q * scale; elements of
// a block share one scale, and the scales are a tensor of their own. An operation of a copy that converts to or from
// F8_E4M3 says where the scale of each of its elements lies; nothing else about blocks reaches the kernels, so that any
// box of a tensor, wherever windows cut it, can be converted by itself.
//
// What scales and conversions are, bit by bit, is defined in scale_bits.h.
#pragma once

#include <cstdint>

#include "src/base/dtype.h"

namespace reshard {

/// How a dim of a copy shares scales. Index i of the dim has scale number (offset + i) / block, rounded down, counted
/// from the scale of index 0; scales lie `stride_bytes` apart.
///
///   per tensor, or a dim that lies within one block    {}
///   per channel, along the dim of the channels         {1, 0, stride}
///   blocks of 128, a box that begins at element 200    {128, 200 % 128, stride}
struct ScaleDim {
  std::int64_t block = 1;         ///< elements; a power of two (not looked at where stride_bytes is 0)
  std::int64_t offset = 0;        ///< of index 0 in its block: 0 <= offset < block
  std::int64_t stride_bytes = 0;  ///< from one scale to the next; 0: all indices have the same
  bool operator==(const ScaleDim&) const = default;
};

/// The scales of a copy. The scale of element i of the box lies at base + sum((offset[d] + i[d]) / block[d] *
/// stride[d]), in memory that the copying thread or device can read, aligned to its size.
struct CopyScales {
  const void* base = nullptr;       ///< the scale of element (0, 0, ...) of the box; null: the copy has no scales
  DType dtype = DType::kF32;        ///< F32 or F8_E8M0
  ScaleDim dims[RESHARD_MAX_DIMS];  ///< in the order of the copy's dims
};

/// Whether elements of `src` are delivered as `dst` by means of scales: BF16 or F32 to F8_E4M3 (quantised: q is the
/// element times the reciprocal of its scale), or F8_E4M3 to BF16 or F32 (dequantised: q times the scale).
constexpr bool is_scalable(DType src, DType dst) {
  const auto is_wide = [](DType dtype) { return dtype == DType::kBF16 || dtype == DType::kF32; };
  return (is_wide(src) && dst == DType::kF8E4M3) || (src == DType::kF8E4M3 && is_wide(dst));
}

/// How a scale follows from the largest magnitude of its block. The type of the scales follows from the rule.
enum class ScaleRule : std::uint8_t {
  /// F32: max(amax, 1e-4) / 448, as DeepGEMM's per_block_cast_to_fp8 has it, which vLLM and SGLang quantise weights of
  /// blocks of 128 x 128 with.
  kF32,
  /// F8_E8M0: the smallest power of two with which amax is not above 448, as FlashInfer (hence vLLM), Transformer
  /// Engine
  /// and torchao's RCEIL have it.
  kE8M0Up,
  /// F8_E8M0: 2^(floor(log2(amax)) - 8), as the OCP Microscaling specification and torchao's FLOOR have it; elements
  /// above 448 times that are clamped.
  kE8M0Down,
};

constexpr DType scale_dtype(ScaleRule rule) {
  return rule == ScaleRule::kF32 ? DType::kF32 : DType::kF8E8M0;
}

}  // namespace reshard
