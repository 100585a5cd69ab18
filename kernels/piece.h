// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>

namespace reshard {

/// Addresses may belong to different allocations, so that the distance is one of integers. Of fills, whose source is
/// null, it is 0.
inline std::intptr_t bytes_between(const void* from, const void* to) {
  return reinterpret_cast<std::intptr_t>(to) - reinterpret_cast<std::intptr_t>(from);
}

/// One dimension of a copy: how many, and how far apart on each side in bytes.
struct CopyDim {
  std::int64_t extent = 1;
  std::int64_t src_stride = 0;
  std::int64_t dst_stride = 0;
  bool operator==(const CopyDim&) const = default;
};

/// A two-dimensional part of a copy, the unit that inner kernels work on. What a column is (a byte, an element) is the
/// kernel's business.
struct Piece {
  const std::byte* src = nullptr;
  std::byte* dst = nullptr;
  CopyDim cols;  // inner, the smallest destination stride
  CopyDim rows;
  // Distance from a row to the one whose cache lines are asked for meanwhile, on either side. Zero: none are.
  std::int64_t src_ahead_bytes = 0;
  std::int64_t dst_ahead_bytes = 0;
};

/// By value: what a kernel stores can then not alias its own loop bounds, which stay in registers.
using PieceFn = void (*)(Piece);

}  // namespace reshard
