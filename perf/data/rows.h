// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "reshard/reshard.h"

namespace reshard::perf {

/// A box of elements with two addresses for each: its index in a row-major array, and its place in memory.
struct RowDim {
  std::int64_t extent = 1;
  std::int64_t index_stride = 1;   ///< elements of the row-major array
  std::int64_t memory_stride = 0;  ///< bytes
};

/// `count` elements that follow each other in the row-major array, stride_bytes apart in memory.
struct Row {
  std::int64_t first = 0;  ///< row-major index of the first element
  std::int64_t count = 0;
  std::int64_t offset_bytes = 0;
  std::int64_t stride_bytes = 0;
};

/// The block's box in a row-major array of extents `shape`, outermost dimension first. Dimensions that
/// lie one behind the other in both are merged; the last one has index_stride 1.
std::vector<RowDim> row_dims(const reshard_block_t& block, std::span<const std::int64_t> shape);

/// Row-major index of `begin` in an array of extents `shape`.
std::int64_t linear_index(std::span<const std::int64_t> shape, const std::int64_t* begin);

/// Calls f(Row) for every row of at most max_count elements, in row-major order.
template <typename F>
void for_each_row(const std::vector<RowDim>& dims, std::int64_t first_index, std::int64_t first_offset_bytes,
                  std::int64_t max_count, F&& f) {
  for (const RowDim& dim : dims) {
    if (dim.extent == 0) return;
  }
  const RowDim& inner = dims.back();
  std::vector<std::int64_t> position(dims.size(), 0);
  Row row{first_index, 0, first_offset_bytes, inner.memory_stride};
  for (;;) {
    for (std::int64_t done = 0; done < inner.extent; done += row.count) {
      row.count = inner.extent - done < max_count ? inner.extent - done : max_count;
      f(Row{row.first + done, row.count, row.offset_bytes + done * inner.memory_stride, inner.memory_stride});
    }
    std::size_t d = dims.size() - 1;
    for (;; --d) {  // the next row: an odometer over the outer dims
      if (d == 0) return;
      const RowDim& dim = dims[d - 1];
      row.first += dim.index_stride;
      row.offset_bytes += dim.memory_stride;
      if (++position[d - 1] < dim.extent) break;
      row.first -= dim.extent * dim.index_stride;
      row.offset_bytes -= dim.extent * dim.memory_stride;
      position[d - 1] = 0;
    }
  }
}

/// Copies `count` elements of size_bytes between a dense array and memory that is stride_bytes apart.
void scatter_row(const std::byte* dense, std::size_t size_bytes, const Row& row, std::byte* memory);
void gather_row(const std::byte* memory, std::size_t size_bytes, const Row& row, std::byte* dense);

}  // namespace reshard::perf
