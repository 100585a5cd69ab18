// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Boxes are half-open and of up to RESHARD_MAX_DIMS dims; an empty one may have any ends. The algorithms work dim by
// dim, from the outermost: slabs of one dim, then the same within each slab.
#include "src/layout/box.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/layout/slabs.h"

namespace reshard {

std::int64_t Box::num_elements() const {
  std::int64_t count = 1;
  for (int d = 0; d < num_dims; ++d) count *= std::max<std::int64_t>(0, extent(d));
  return count;
}

bool Box::empty() const {
  for (int d = 0; d < num_dims; ++d) {
    if (end[d] <= begin[d]) return true;
  }
  return false;
}

Box whole_box(const std::vector<std::int64_t>& shape) {
  Box box;
  box.num_dims = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), box.end.values);
  return box;
}

Box intersect(const Box& a, const Box& b) {
  Box out = a;
  for (int d = 0; d < a.num_dims; ++d) {
    out.begin[d] = std::max(a.begin[d], b.begin[d]);
    out.end[d] = std::min(a.end[d], b.end[d]);
  }
  return out;
}

std::string to_string(const Box& box) {
  std::string text = "[";
  for (int d = 0; d < box.num_dims; ++d) {
    text += fmt::format("{}{}:{}", d == 0 ? "" : ", ", box.begin[d], box.end[d]);
  }
  return text + "]";
}

void for_each_box_of_range(const Box& box, std::int64_t begin, std::int64_t end,
                           const std::function<void(const Box& piece, std::int64_t flat)>& visit) {
  Dims inner;  // elements of one index of dim d
  std::int64_t size = 1;
  for (int d = box.num_dims - 1; d >= 0; --d) {
    inner[d] = size;
    size *= box.extent(d);
  }
  if (box.num_dims == 0) {
    if (begin < end) visit(box, 0);
    return;
  }
  // From each position, take the largest aligned slab that fits: outermost dim whose inner size divides the position.
  std::int64_t position = begin;
  while (position < end) {
    int d = 0;
    while (position % inner[d] != 0 || position + inner[d] > end) ++d;
    const std::int64_t index = position / inner[d] % box.extent(d);
    const std::int64_t count = std::min((end - position) / inner[d], box.extent(d) - index);
    Box piece = box;
    for (int k = 0; k < d; ++k) {
      piece.begin[k] = box.begin[k] + position / inner[k] % box.extent(k);
      piece.end[k] = piece.begin[k] + 1;
    }
    piece.begin[d] = box.begin[d] + index;
    piece.end[d] = piece.begin[d] + count;
    visit(piece, position);
    position += count * inner[d];
  }
}

namespace {

/// Appends what `inner` leaves of `partial`, which is cut to size in the dims before `dim`; `active` are the boxes of
/// `inner` that cover it there. Where none is active the rest of `partial` is free; past the last dim it is covered.
void complement_from(int dim, const Box& partial, const std::vector<Box>& inner,
                     const std::vector<std::int32_t>& active, std::vector<Box>* out) {
  if (active.empty()) {
    out->push_back(partial);
    return;
  }
  if (dim == partial.num_dims) return;
  for_each_slab(dim, partial.begin[dim], partial.end[dim], inner, active,
                [&](std::int64_t begin, std::int64_t end, const std::vector<std::int32_t>& in_slab) {
                  Box slab = partial;
                  slab.begin[dim] = begin;
                  slab.end[dim] = end;
                  complement_from(dim + 1, slab, inner, in_slab, out);
                });
}

}  // namespace

std::vector<Box> complement(const Box& outer, const std::vector<Box>& inner) {
  std::vector<Box> out;
  if (outer.empty()) return out;
  std::vector<std::int32_t> active;
  for (std::size_t i = 0; i < inner.size(); ++i) {
    if (!inner[i].empty()) active.push_back(static_cast<std::int32_t>(i));
  }
  complement_from(0, outer, inner, active, &out);
  return out;
}

Result<std::int64_t> checked_num_elements(const std::vector<std::int64_t>& shape) {
  bool has_zero = false;
  for (const std::int64_t extent : shape) {
    if (extent < 0) return invalid_argument(fmt::format("extent {} is negative; extents are 0 or more", extent));
    has_zero = has_zero || extent == 0;
  }
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) {
    const std::int64_t factor = std::max<std::int64_t>(1, extent);
    if (count > kMostCounted / factor) {
      return invalid_argument(fmt::format("shape [{}] has more than 2^62 elements", fmt::join(shape, ", ")));
    }
    count *= factor;
  }
  return has_zero ? 0 : count;
}

}  // namespace reshard
