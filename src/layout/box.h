// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "src/base/status.h"

namespace reshard {

inline constexpr int kMaxDims = RESHARD_MAX_DIMS;

/// Most elements of a tensor, and most bytes that a local tensor and its offset reach together. Half of what 64 bits
/// with a sign hold: code behind these checks may add to such numbers without checking again.
inline constexpr std::int64_t kMostCounted = std::int64_t{1} << 62;

/// One number per dimension.
struct Dims {
  std::int64_t values[kMaxDims] = {};
  std::int64_t& operator[](int dim) { return values[dim]; }
  std::int64_t operator[](int dim) const { return values[dim]; }
  bool operator==(const Dims&) const = default;
};

/// Half-open index box [begin, end) of num_dims dimensions. A scalar is the box of no dimensions and one element.
struct Box {
  int num_dims = 0;
  Dims begin;
  Dims end;

  std::int64_t extent(int dim) const { return end[dim] - begin[dim]; }
  std::int64_t num_elements() const;
  bool empty() const;
  bool operator==(const Box&) const = default;
};

/// The box [0, shape).
Box whole_box(const std::vector<std::int64_t>& shape);

/// The common part; empty() when there is none. Both must have the same number of dims.
Box intersect(const Box& a, const Box& b);

/// "[0:4, 8:16]", in the order of the dims; "[]" for a scalar.
std::string to_string(const Box& box);

/// Calls `visit(piece, flat)` for the boxes that make up the row-major elements [begin, end) of `box`, in order, where
/// `flat` is the row-major position of the piece's first element in `box`. Every piece is row-major contiguous in
/// `box`.
/// @post at most 2 * num_dims - 1 pieces, disjoint, end - begin elements in all
void for_each_box_of_range(const Box& box, std::int64_t begin, std::int64_t end,
                           const std::function<void(const Box& piece, std::int64_t flat)>& visit);

/// The boxes that cover `outer` without `inner` boxes, which must lie inside it.
/// @post disjoint; num_elements(outer) = sum(result) + |union(inner)|
std::vector<Box> complement(const Box& outer, const std::vector<Box>& inner);

/// product of shape with overflow check: RESHARD_ERR_INVALID_ARGUMENT for a negative extent or more than 2^62 elements.
Result<std::int64_t> checked_num_elements(const std::vector<std::int64_t>& shape);

}  // namespace reshard
