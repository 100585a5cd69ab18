// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/canonical_op.h"
#include "kernels/scale_list.h"

namespace reshard::testing {

/// A copy between memory of its own, with guards around: all that is compared.
struct RandomCopy {
  CopyOp op;  ///< addresses are offsets into the two memories, until bind()
  std::vector<std::byte> src;
  std::vector<std::byte> dst;
  std::int64_t src_base = 0;
  std::int64_t dst_base = 0;
  std::vector<std::byte> scales;  ///< empty: the copy has none
  std::int64_t scale_base = 0;
  bool is_fill = false;

  /// The copy from `src` into memory of the form of `dst`, with scales in memory of the form of `scales`; null: there.
  CopyOp bind(const std::byte* from, std::byte* to, const std::byte* with = nullptr) const;
};

/// Any types, any number of dims, any strides, offsets of any number of bytes; shapes that all kernels like to get
/// wrong.
RandomCopy random_copy(std::mt19937_64* random);

/// Likewise, but quantised or dequantised, with blocks of all kinds, which the box cuts anywhere.
RandomCopy random_scaled_copy(std::mt19937_64* random);

/// Scales that are made, of memory of its own, at any offset.
struct RandomScales {
  ScaleOp op;  ///< addresses are not set; the source begins at `src_base`
  std::vector<std::byte> src;
  std::vector<std::byte> scales;
  std::int64_t src_base = 0;
};
RandomScales random_scales(std::mt19937_64* random);

}  // namespace reshard::testing
