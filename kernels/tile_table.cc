// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Cuts boxes into tiles. Thread blocks get the same number of tiles each, so tiles should take about the same time:
// they have 16 to 32 KiB where a box has that much, and small boxes go several to a tile.
#include "kernels/tile_table.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/box_shaper.h"

namespace reshard {
namespace {

// A box below this is moved by one warp; at most so many of them in a tile, eight for each of its warps.
constexpr std::int64_t kSmallBoxBytes = 4096;
constexpr std::int64_t kMaxGroupSize = 64;

std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

// Bytes of a column: the larger side counts, since either may be what takes the time.
std::int64_t col_bytes(const CopyBox& box) {
  return std::max(box.src_bytes, box.dst_bytes);
}

std::int64_t num_rows_of(const CopyBox& box) {
  return std::int64_t{box.extents[1]} * box.extents[2];
}

std::int64_t num_bytes_of(const CopyBox& box) {
  return num_rows_of(box) * box.extents[0] * col_bytes(box);
}

// Tiles of one box.
class Cutter {
 public:
  /// `scales` is the record behind the box, of boxes that have one.
  Cutter(const CopyBox& box, const CopyBox* scales, std::uint32_t index, std::vector<Tile>* tiles)
      : box_(box), scales_(scales), index_(index), tiles_(*tiles) {}

  void cut() {
    if (box_.kind == BoxKind::kTranspose) return cut_transpose();
    if (box_.kind == BoxKind::kAmax) return cut_blocks();
    const std::int64_t row_bytes = box_.extents[0] * col_bytes(box_);
    if (row_bytes > TileTable::kMaxTileBytes) {
      const std::int64_t num_parts = divide_up(row_bytes, TileTable::kMaxTileBytes);
      for (std::int64_t row = 0; row < num_rows_of(box_); ++row) cut_cols(row, 1, num_parts, kColStep);
    } else {
      cut_rows(TileTable::kMaxTileBytes / row_bytes, 1, 1);
    }
  }

 private:
  static constexpr std::int64_t kColStep = 128;  // parts of a row begin at whole cache lines, as far as the row does

  void add(std::int64_t first_row, std::int64_t num_rows, std::int64_t first_col, std::int64_t num_cols) {
    tiles_.push_back({index_, static_cast<std::uint32_t>(first_row), static_cast<std::uint32_t>(first_col),
                      static_cast<std::uint16_t>(num_rows), static_cast<std::uint16_t>(num_cols)});
  }

  // All columns of some rows in `num_parts` of about equal size, which begin at multiples of `step`.
  void cut_cols(std::int64_t row, std::int64_t num_rows, std::int64_t num_parts, std::int64_t step) {
    const std::int64_t cols = box_.extents[0];
    std::int64_t first = 0;
    for (std::int64_t part = 1; part <= num_parts; ++part) {
      const std::int64_t end = part == num_parts ? cols : cols * part / num_parts / step * step;
      if (end > first) add(row, num_rows, first, end - first);
      first = end;
    }
  }

  // At most `most` rows a tile, which begin at multiples of `step` in their plane; or whole planes, where several fit.
  void cut_rows(std::int64_t most, std::int64_t step, std::int64_t col_parts) {
    const std::int64_t rows = box_.extents[1];
    const std::int64_t planes = box_.extents[2];
    const std::int64_t whole_planes = most / rows;
    if (whole_planes > 1) {
      const std::int64_t num_parts = divide_up(planes, whole_planes);
      for (std::int64_t part = 0; part < num_parts; ++part) {
        const std::int64_t first = planes * part / num_parts;
        const std::int64_t end = planes * (part + 1) / num_parts;
        cut_cols(first * rows, (end - first) * rows, 1, 1);
      }
      return;
    }
    const std::int64_t num_steps = divide_up(rows, step);
    const std::int64_t num_parts = divide_up(num_steps, std::max<std::int64_t>(1, most / step));
    for (std::int64_t plane = 0; plane < planes; ++plane) {
      for (std::int64_t part = 0; part < num_parts; ++part) {
        const std::int64_t first = num_steps * part / num_parts * step;
        const std::int64_t end = std::min(rows, num_steps * (part + 1) / num_parts * step);
        cut_cols(plane * rows + first, end - first, col_parts, transpose_cols());
      }
    }
  }

  std::int64_t transpose_cols() const { return transpose_chunk(box_.src_bytes, box_.extents[1]).num_cols; }

  // Whole chunks of shared memory: one high, and as many wide as fill a tile; or all columns, and several high.
  void cut_transpose() {
    const TransposeChunk chunk = transpose_chunk(box_.src_bytes, box_.extents[1]);
    const std::int64_t col_chunks = divide_up(box_.extents[0], chunk.num_cols);
    const std::int64_t chunk_rows = std::min(chunk.num_rows, box_.extents[1]);
    const std::int64_t chunk_bytes = chunk_rows * std::min(chunk.num_cols, box_.extents[0]) * col_bytes(box_);
    const std::int64_t num_chunks = std::max<std::int64_t>(1, TileTable::kMaxTileBytes / chunk_bytes);
    const std::int64_t most_rows = std::max<std::int64_t>(1, num_chunks / col_chunks) * chunk.num_rows;
    const std::int64_t row_bytes = box_.extents[0] * col_bytes(box_);
    // Where the rows of a plane are fewer than a chunk has, so that several planes fit, count the rows there are.
    const bool has_whole_planes = 2 * box_.extents[1] * row_bytes <= TileTable::kMaxTileBytes;
    const std::int64_t most = has_whole_planes ? TileTable::kMaxTileBytes / row_bytes : most_rows;
    cut_rows(most, chunk.num_rows, divide_up(col_chunks, num_chunks));
  }

  // Whole blocks of scales: one to a tile where it is large, else as many as fit, side by side, or all columns and
  // several rows of blocks.
  void cut_blocks() {
    const auto scales = std::bit_cast<BoxScales>(*scales_);
    const std::int64_t block_cols = std::int64_t{1} << scales.shifts[0];
    const std::int64_t block_rows = std::int64_t{1} << scales.shifts[1];
    const std::int64_t most = TileTable::kMaxTileBytes / box_.src_bytes;  // elements
    const std::int64_t cols = box_.extents[0];
    const std::int64_t rows = box_.extents[1];
    std::int64_t tile_cols = std::max<std::int64_t>(1, most / block_rows / block_cols) * block_cols;
    std::int64_t tile_rows = block_rows;
    if (block_cols * block_rows * box_.src_bytes >= TileTable::kMinTileBytes) {
      tile_cols = block_cols;
    } else if (tile_cols >= cols) {
      tile_rows = std::max<std::int64_t>(1, most / cols / block_rows) * block_rows;
    }
    for (std::int64_t plane = 0; plane < box_.extents[2]; ++plane) {
      for (std::int64_t row = 0; row < rows; row += tile_rows) {
        for (std::int64_t col = 0; col < cols; col += tile_cols) {
          add(plane * rows + row, std::min(tile_rows, rows - row), col, std::min(tile_cols, cols - col));
        }
      }
    }
  }

  const CopyBox& box_;
  const CopyBox* scales_;
  std::uint32_t index_;
  std::vector<Tile>& tiles_;
};

}  // namespace

TileRange TileTable::add(const CopyList& copies) {
  begin_batch();
  append(copies);
  return end_batch();
}

void TileTable::begin_batch() {
  batch_ = {num_tiles(), 0, 0, false};
}

void TileTable::append(const CopyList& copies) {
  for (std::size_t i = 0; i < copies.num_ops(); ++i) append(copies.canonical_op(i));
}

void TileTable::append(const CanonicalOp& op) {
  std::int64_t num_bytes = size_bytes(op.dst_dtype);
  for (int d = 0; d < op.num_dims; ++d) num_bytes *= op.dims[d].extent;
  batch_.num_bytes += num_bytes;
  for_each_box(op, [this](const ShapedBox& box) { append_box(box); });
}

void TileTable::append(const ScaleList& scales) {
  for (const ScaleOp& op : scales.ops()) {
    std::int64_t num_scales = 1;
    for (int d = 0; d < op.num_dims; ++d) num_scales *= divide_up(op.shape[d], op.blocks[d]);
    batch_.num_bytes += num_scales * size_bytes(scale_dtype(op.rule));
    for_each_box(op, [this](const ShapedBox& box) { append_box(box); });
  }
}

TileRange TileTable::end_batch() {
  close_group();
  batch_.num_tiles = num_tiles() - batch_.first_tile;
  return batch_;
}

void TileTable::append_box(const ShapedBox& shaped) {
  const CopyBox& box = shaped.box;
  const std::int64_t num_bytes = num_bytes_of(box);
  const std::int64_t num_records = has_scales(box.kind) ? 2 : 1;
  // What has barriers takes a whole thread block.
  const bool is_small = num_bytes < kSmallBoxBytes && box.kind != BoxKind::kTranspose && box.kind != BoxKind::kAmax;
  const bool fits = group_size_ < kMaxGroupSize && group_bytes_ + num_bytes <= kMaxTileBytes;
  if (!is_small || !fits || num_records != group_records_) close_group();
  boxes_.push_back(box);
  if (num_records == 2) boxes_.push_back(std::bit_cast<CopyBox>(shaped.scales));
  batch_.has_scales = batch_.has_scales || num_records == 2;
  if (is_small) {
    ++group_size_;
    group_bytes_ += num_bytes;
    group_records_ = num_records;
  } else {
    cut_last(num_records);
  }
}

// The box at the end, which is so many records.
void TileTable::cut_last(std::int64_t num_records) {
  const auto first = static_cast<std::size_t>(num_boxes() - num_records);
  const CopyBox* const scales = num_records == 2 ? &boxes_[first + 1] : nullptr;
  Cutter(boxes_[first], scales, static_cast<std::uint32_t>(first), &tiles_).cut();
}

// Names the small boxes at the end in a tile. One alone is better moved by a whole thread block.
void TileTable::close_group() {
  if (group_size_ == 1) {
    cut_last(group_records_);
  } else if (group_size_ > 1) {
    const auto first = static_cast<std::uint32_t>(num_boxes() - group_size_ * group_records_);
    tiles_.push_back(
        {first, 0, Tile::kGroup, static_cast<std::uint16_t>(group_size_), static_cast<std::uint16_t>(group_records_)});
  }
  group_size_ = 0;
  group_bytes_ = 0;
}

std::int64_t TileTable::num_bytes() const {
  return num_boxes() * static_cast<std::int64_t>(sizeof(CopyBox)) +
         num_tiles() * static_cast<std::int64_t>(sizeof(Tile));
}

void TileTable::write(std::byte* out) const {
  const std::size_t box_bytes = boxes_.size() * sizeof(CopyBox);
  if (!boxes_.empty()) std::memcpy(out, boxes_.data(), box_bytes);
  if (!tiles_.empty()) std::memcpy(out + box_bytes, tiles_.data(), tiles_.size() * sizeof(Tile));
}

}  // namespace reshard
