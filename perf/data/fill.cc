// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Writes the source's elements where the source layout says, and afterwards compares the destination with the same
// elements where the destination layout says; in between nothing is kept, as a model fills the memory. Both use blocks
// that the library hands out, so that a layout that is wrong on both sides is not seen here (tests/endtoend sees it).
#include "perf/data/fill.h"

#include <cmath>
#include <cstring>

#include "perf/data/convert.h"
#include "perf/data/rows.h"
#include "perf/engine/layout_view.h"

namespace reshard::perf {
namespace {

/// Elements handled at a time: a scratch row that stays in the first-level cache.
constexpr std::int64_t kRowElements = 2048;
constexpr std::size_t kMaxElementBytes = 8;

struct ScratchRow {
  alignas(64) std::byte bytes[kRowElements * kMaxElementBytes];
};

bool both_nan(reshard_dtype_t dtype, const std::byte* a, const std::byte* b) {
  return std::isnan(load_number(dtype, a)) && std::isnan(load_number(dtype, b));
}

/// Elements of the two dense rows that differ. A conversion may choose any NaN for a NaN.
std::int64_t count_wrong(const TensorPair& tensor, const std::byte* expected, const std::byte* found,
                         std::int64_t count) {
  const std::size_t size = reshard_dtype_size_bytes(tensor.dst_dtype);
  if (std::memcmp(expected, found, static_cast<std::size_t>(count) * size) == 0) return 0;
  const bool converted = tensor.src_dtype != tensor.dst_dtype && tensor.quant == nullptr;
  std::int64_t num_wrong = 0;
  for (std::int64_t i = 0; i < count; ++i, expected += size, found += size) {
    if (std::memcmp(expected, found, size) == 0) continue;
    if (converted && both_nan(tensor.dst_dtype, expected, found)) continue;
    ++num_wrong;
  }
  return num_wrong;
}

/// Compares one block, whose elements `expect(first, count, out)` gives, with the memory of its buffer.
template <typename F>
CheckCount check_block(const reshard_block_t& block, const TensorPair& tensor, std::span<const std::int64_t> shape,
                       const std::byte* memory, F&& expect) {
  const std::size_t size = reshard_dtype_size_bytes(tensor.dst_dtype);
  CheckCount count;
  ScratchRow expected;
  ScratchRow found;
  const std::int64_t first = linear_index(shape, block.begin);
  for_each_row(row_dims(block, shape), first, block.offset_bytes, kRowElements, [&](const Row& row) {
    expect(row.first, row.count, expected.bytes);
    const std::byte* dense = memory + row.offset_bytes;
    if (row.stride_bytes != static_cast<std::int64_t>(size)) {
      gather_row(memory, size, row, found.bytes);
      dense = found.bytes;
    }
    count.num_elements += row.count;
    count.num_wrong += count_wrong(tensor, expected.bytes, dense, row.count);
  });
  return count;
}

CheckCount check_data(const reshard_block_t& block, const TensorPair& tensor, const ElementSource& values,
                      const std::byte* memory) {
  return check_block(block, tensor, tensor.shape, memory, [&](std::int64_t first, std::int64_t count, std::byte* out) {
    values.read(tensor, first, count, tensor.dst_dtype, out);
  });
}

CheckCount check_untouched(const reshard_block_t& block, const TensorPair& tensor, const std::byte* memory) {
  const std::size_t size = reshard_dtype_size_bytes(tensor.dst_dtype);
  return check_block(block, tensor, tensor.shape, memory, [&](std::int64_t, std::int64_t count, std::byte* out) {
    std::memset(out, std::to_integer<int>(Arena::kPoison), static_cast<std::size_t>(count) * size);
  });
}

CheckCount check_padding(const reshard_block_t& block, const TensorPair& tensor, const std::byte* memory) {
  const std::byte content = block.kind == RESHARD_BLOCK_ZERO ? std::byte{0} : Arena::kPoison;
  const std::size_t size = reshard_dtype_size_bytes(tensor.dst_dtype);
  const std::span<const std::int64_t> extents(block.end, tensor.shape.size());
  return check_block(block, tensor, extents, memory, [&](std::int64_t, std::int64_t count, std::byte* out) {
    std::memset(out, std::to_integer<int>(content), static_cast<std::size_t>(count) * size);
  });
}

CheckCount compare_block(const RankData& data, const reshard_block_t& block, const TensorPair& tensor,
                         const std::byte* memory) {
  if (block.kind != RESHARD_BLOCK_DATA) {
    // What is skipped is not even padded.
    return tensor.is_skipped() ? CheckCount{} : check_padding(block, tensor, memory);
  }
  return tensor.is_skipped() ? check_untouched(block, tensor, memory) : check_data(block, tensor, *data.values, memory);
}

}  // namespace

void fill_source(const RankData& data, const std::vector<TensorPair>& tensors, const Arena& arena) {
  ScratchRow scratch;
  for (const TensorPair& tensor : tensors) {
    if (tensor.src_index < 0) continue;
    const std::size_t size = reshard_dtype_size_bytes(tensor.src_dtype);
    for (const reshard_block_t& block : blocks_of(data.layout, data.rank, tensor.src_index)) {
      if (block.kind != RESHARD_BLOCK_DATA) continue;
      std::byte* memory = arena.buffer(block.buffer);
      const std::int64_t first = linear_index(tensor.shape, block.begin);
      for_each_row(row_dims(block, tensor.shape), first, block.offset_bytes, kRowElements, [&](const Row& row) {
        data.values->read(tensor, row.first, row.count, tensor.src_dtype, scratch.bytes);
        scatter_row(scratch.bytes, size, row, memory);
      });
    }
  }
}

std::vector<CheckCount> check_destination(const RankData& data, const std::vector<TensorPair>& tensors,
                                          const Arena& arena) {
  std::vector<CheckCount> counts;
  for (const TensorPair& tensor : tensors) {
    CheckCount& total = counts.emplace_back();
    if (tensor.dst_index < 0) continue;
    for (const reshard_block_t& block : blocks_of(data.layout, data.rank, tensor.dst_index)) {
      const CheckCount count = compare_block(data, block, tensor, arena.buffer(block.buffer));
      total.num_elements += count.num_elements;
      total.num_wrong += count.num_wrong;
    }
  }
  return counts;
}

}  // namespace reshard::perf
