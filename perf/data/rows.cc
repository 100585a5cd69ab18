// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Blocks of a layout as rows: runs of elements that follow each other in the tensor and lie at one stride in memory.
// Two dims are one where stepping from the end of the inner to the next of the outer is a step like all others on both
// sides, so that a block that is dense on both is a single row.
#include "perf/data/rows.h"

#include <algorithm>
#include <cstring>

namespace reshard::perf {
namespace {

/// Copies elements of kSize bytes; the compiler sees the constant and makes each copy one move.
template <std::size_t kSize>
void copy_strided(const std::byte* in, std::int64_t in_stride, std::byte* out, std::int64_t out_stride,
                  std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) std::memcpy(out + i * out_stride, in + i * in_stride, kSize);
}

void copy_elements(const std::byte* in, std::int64_t in_stride, std::byte* out, std::int64_t out_stride,
                   std::int64_t count, std::size_t size_bytes) {
  const auto size = static_cast<std::int64_t>(size_bytes);
  if (in_stride == size && out_stride == size) {
    std::memcpy(out, in, static_cast<std::size_t>(count) * size_bytes);
  } else if (size_bytes == 1) {
    copy_strided<1>(in, in_stride, out, out_stride, count);
  } else if (size_bytes == 2) {
    copy_strided<2>(in, in_stride, out, out_stride, count);
  } else if (size_bytes == 4) {
    copy_strided<4>(in, in_stride, out, out_stride, count);
  } else {
    copy_strided<8>(in, in_stride, out, out_stride, count);
  }
}

}  // namespace

std::int64_t linear_index(std::span<const std::int64_t> shape, const std::int64_t* begin) {
  std::int64_t index = 0;
  for (std::size_t d = 0; d < shape.size(); ++d) index = index * shape[d] + begin[d];
  return index;
}

std::vector<RowDim> row_dims(const reshard_block_t& block, std::span<const std::int64_t> shape) {
  std::vector<RowDim> dims;  // innermost first while merging
  std::int64_t index_stride = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    const RowDim dim{block.end[d] - block.begin[d], index_stride, block.strides_bytes[d]};
    index_stride *= shape[d];
    if (dim.extent == 1) continue;
    if (!dims.empty() && dim.index_stride == dims.back().extent * dims.back().index_stride &&
        dim.memory_stride == dims.back().extent * dims.back().memory_stride) {
      dims.back().extent *= dim.extent;
    } else {
      dims.push_back(dim);
    }
  }
  // The innermost dim must be one of elements that follow each other in the tensor; else a row is one element.
  if (dims.empty() || dims.front().index_stride != 1) dims.insert(dims.begin(), RowDim{});
  std::reverse(dims.begin(), dims.end());
  return dims;
}

void scatter_row(const std::byte* dense, std::size_t size_bytes, const Row& row, std::byte* memory) {
  const auto size = static_cast<std::int64_t>(size_bytes);
  copy_elements(dense, size, memory + row.offset_bytes, row.stride_bytes, row.count, size_bytes);
}

void gather_row(const std::byte* memory, std::size_t size_bytes, const Row& row, std::byte* dense) {
  const auto size = static_cast<std::int64_t>(size_bytes);
  copy_elements(memory + row.offset_bytes, row.stride_bytes, dense, size, row.count, size_bytes);
}

}  // namespace reshard::perf
