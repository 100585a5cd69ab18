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
};

/// Float types of a conversion, two bits each in Box::types.
enum class FloatType : std::uint8_t { kF32, kBF16, kF16 };

/// A strided box of up to three dims: columns, rows and planes, of extents[0], [1] and [2] (at least 1 each). The
/// element at column c, row r and plane p lies at base + c * col_stride + r * row_stride + p * plane_stride on each
/// side.
struct Box {
  std::uint64_t src = 0;  ///< device addresses; of a fill 0
  std::uint64_t dst = 0;
  std::uint32_t extents[3] = {1, 1, 1};
  BoxKind kind = BoxKind::kRows;
  std::uint8_t src_bytes = 1;  ///< of a column; 1, 2, 4, 8 or 16
  std::uint8_t dst_bytes = 1;
  std::uint8_t types = kSameType;  ///< of a conversion: source's FloatType + 4 * destination's
  std::int32_t src_col_stride = 1;
  std::int32_t dst_col_stride = 1;
  std::int32_t src_row_stride = 0;
  std::int32_t dst_row_stride = 0;
  std::int64_t src_plane_stride = 0;
  std::int64_t dst_plane_stride = 0;

  static constexpr std::uint8_t kSameType = 0xff;  ///< copied as it is
};
static_assert(sizeof(Box) == 64);

/// A part of a box that one thread block moves at a time: a rectangle of columns and of rows, counted through all
/// planes (row = plane * extents[1] + row in the plane). It lies in one plane, or is a number of whole planes. Or, with
/// first_col == kGroup, num_rows small boxes from `box` on, each of which one warp moves whole.
struct Tile {
  std::uint32_t box = 0;
  std::uint32_t first_row = 0;
  std::uint32_t first_col = 0;
  std::uint16_t num_rows = 0;
  std::uint16_t num_cols = 0;

  static constexpr std::uint32_t kGroup = 0xffffffffU;
};
static_assert(sizeof(Tile) == 16);

}  // namespace reshard
