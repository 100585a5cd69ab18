// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a launch on a device reads: the words of the table that TileTable makes. Host and device share this file, so it
// holds plain numbers only.
#pragma once

#include <cstdint>

namespace reshard {

/// How a box is moved.
enum class BoxKind : std::uint8_t {
  kRows,       ///< runs of bytes that are contiguous on both sides; columns are bytes, any alignment
  kFill,       ///< runs of zero bytes; columns are bytes
  kElements,   ///< elements one by one, converted or not, any strides and any alignment
  kTranspose,  ///< contiguous along columns in the destination and along rows in the source; aligned to its elements
  kScaled,  ///< elements that are quantised or dequantised, any strides, any alignment, one plane; a BoxScales follows
  kAmax,    ///< scales are made of the source's blocks; a BoxScales follows, and there is no dst
};

/// Whether a box is two records of the table, the second one a BoxScales.
constexpr bool has_scales(BoxKind kind) {
  return kind == BoxKind::kScaled || kind == BoxKind::kAmax;
}

/// Float types of a conversion. Of F8_E4M3 there are conversions with scales only.
enum class FloatType : std::uint8_t { kF32, kBF16, kF16, kF8E4M3 };

/// A strided box of up to three dims: columns, rows and planes, of extents[0], [1] and [2] (at least 1 each). The
/// element at column c, row r and plane p lies at base + c * col_stride + r * row_stride + p * plane_stride on each
/// side.
struct CopyBox {
  std::uint64_t src = 0;  ///< device addresses; of a fill 0
  std::uint64_t dst = 0;
  std::uint32_t extents[3] = {1, 1, 1};
  BoxKind kind = BoxKind::kRows;
  std::uint8_t src_bytes = 1;  ///< of a column; 1, 2, 4, 8 or 16
  std::uint8_t dst_bytes = 1;
  std::uint8_t types = kSameType;  ///< of a conversion: types_of()
  std::int32_t src_col_stride = 1;
  std::int32_t dst_col_stride = 1;
  std::int32_t src_row_stride = 0;
  std::int32_t dst_row_stride = 0;
  std::int64_t src_plane_stride = 0;
  std::int64_t dst_plane_stride = 0;

  static constexpr std::uint8_t kSameType = 0xff;  ///< copied as it is
  static constexpr std::uint8_t types_of(FloatType src, FloatType dst) {
    return static_cast<std::uint8_t>(static_cast<int>(src) + 4 * static_cast<int>(dst));
  }
};
static_assert(sizeof(CopyBox) == 64);

/// Where the scales of a box lie, in the record behind it. The scale of the element at column c, row r and plane p lies
/// at scales + sum(((offsets[i] + index) >> shifts[i]) * stride), over the three dims.
struct BoxScales {
  std::uint64_t scales = 0;  ///< a device address
  std::int64_t plane_stride = 0;
  std::int32_t col_stride = 0;
  std::int32_t row_stride = 0;
  std::uint32_t offsets[3] = {};  ///< of columns, rows and planes; below a block each
  std::uint8_t shifts[3] = {};    ///< log2 of a block
  std::uint8_t is_e8m0 = 0;       ///< F8_E8M0, not F32
  std::uint8_t rule = 0;          ///< of kAmax: a ScaleRule
  std::uint8_t unused[23] = {};
};
static_assert(sizeof(BoxScales) == sizeof(CopyBox));

/// A part of a box that one thread block moves at a time: a rectangle of columns and of rows, counted through all
/// planes (row = plane * extents[1] + row in the plane). It lies in one plane, or is a number of whole planes. Or, with
/// first_col == kGroup, num_rows small boxes from `box` on, each of which one warp moves whole; `num_cols` is then the
/// number of records of each.
struct Tile {
  std::uint32_t box = 0;
  std::uint32_t first_row = 0;
  std::uint32_t first_col = 0;
  std::uint16_t num_rows = 0;
  std::uint16_t num_cols = 0;

  static constexpr std::uint32_t kGroup = 0xffffffffU;
  constexpr bool is_group() const { return first_col == kGroup; }
  constexpr std::uint32_t num_boxes() const { return is_group() ? num_rows : 1; }
  /// The record of box `index` of the tile.
  constexpr std::uint32_t record(std::uint32_t index) const { return is_group() ? box + index * num_cols : box; }
};
static_assert(sizeof(Tile) == 16);

/// A transpose goes through shared memory in chunks of so many columns and rows: 16 KiB of the source, with runs of 128
/// bytes and more on both sides.
struct TransposeChunk {
  static constexpr std::uint32_t kBytes = 16 * 1024;
  std::uint32_t row_run_bytes;  ///< of the source, which is contiguous along rows; a power of two
  std::uint32_t num_rows;
  std::uint32_t num_cols;
};

/// The chunk for elements of `src_bytes` where the matrix has `num_rows` rows. Narrow for bytes, whose columns would be
/// short runs in the destination otherwise, and for few rows, which would leave a wide one half empty; but wide for 16
/// bytes, of which eight warps write all columns at a time.
constexpr TransposeChunk transpose_chunk(std::uint32_t src_bytes, std::uint32_t num_rows) {
  const bool has_few_rows = num_rows <= 128 / src_bytes;
  const bool is_wide = src_bytes == 16 || (src_bytes > 1 && !has_few_rows);
  const std::uint32_t run_bytes = is_wide ? 256 : 128;
  return {run_bytes, run_bytes / src_bytes, TransposeChunk::kBytes / run_bytes};
}

}  // namespace reshard
