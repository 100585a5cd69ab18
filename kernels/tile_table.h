// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Copies made ready for a device. The host cuts them into tiles of about equal size once, when memory is bound; a
// launch is then a range of tiles, whatever the number and the kinds of copies in it: rows, transposes, fills and
// conversions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/copy_list.h"
#include "kernels/scale_list.h"
#include "kernels/tile.h"

namespace reshard {

struct ShapedBox;

/// One batch: what one launch moves. Tiles of a batch may be moved in any order and at the same time.
struct TileRange {
  std::int64_t first_tile = 0;
  std::int64_t num_tiles = 0;
  std::int64_t num_bytes = 0;  ///< written by it
  bool has_scales = false;     ///< it quantises, dequantises or makes scales: another kernel, in the same launch

  bool empty() const { return num_tiles == 0; }
};

/// Where an uploaded table lies. Plain addresses: whoever uploaded owns the memory.
struct DeviceTable {
  const void* address = nullptr;  ///< of device memory, aligned to 64 bytes
  std::int64_t num_boxes = 0;     ///< records, see TileTable::num_boxes()
};

/// The table of all batches of a binding. Grows while batches are added; then uploaded once:
///
///   TileTable table;
///   TileRange batch = table.add(list);              // for every batch
///   table.write(pinned);                            // num_bytes() of it, copied to `device` by the caller
///   launch_copies(table.at(device), batch, ...);    // kernels/cuda/launch.h, in every run
class TileTable {
 public:
  /// Bytes that a tile moves: between these two, unless its box ends before.
  static constexpr std::int64_t kMinTileBytes = 16 * 1024;
  static constexpr std::int64_t kMaxTileBytes = 32 * 1024;

  /// Appends a batch of all copies of the list, with the addresses they have there, which must be what the device sees.
  /// @pre as for CopyList: sources and destinations of the whole batch do not overlap. Empty lists give an empty range.
  TileRange add(const CopyList& copies);

  /// The same of several lists in one batch: begin, append, ..., end.
  void begin_batch();
  void append(const CopyList& copies);
  void append(const CanonicalOp& op);
  /// The scales of a list. Launched as copies are; copies that use the scales belong to a later launch of the stream.
  void append(const ScaleList& scales);
  TileRange end_batch();

  /// What is to be uploaded. @post num_bytes() == 64 * num_boxes() + 16 * num_tiles()
  std::int64_t num_bytes() const;
  void write(std::byte* out) const;  ///< num_bytes() of them, boxes before tiles
  DeviceTable at(const void* device_address) const { return {device_address, num_boxes()}; }

  /// Records of 64 bytes: a box with scales is two.
  std::int64_t num_boxes() const { return static_cast<std::int64_t>(boxes_.size()); }
  std::int64_t num_tiles() const { return static_cast<std::int64_t>(tiles_.size()); }
  const std::vector<CopyBox>& boxes() const { return boxes_; }
  const std::vector<Tile>& tiles() const { return tiles_; }

 private:
  void append_box(const ShapedBox& shaped);
  void cut_last(std::int64_t num_records);
  void close_group();

  std::vector<CopyBox> boxes_;
  std::vector<Tile> tiles_;
  TileRange batch_;               // the one that is open
  std::int64_t group_bytes_ = 0;  // of the small boxes at the end of boxes_ that no tile names yet
  std::int64_t group_size_ = 0;
  std::int64_t group_records_ = 1;  // of each of them
};

}  // namespace reshard
