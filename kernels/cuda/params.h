// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What kernels take, one trivially copyable struct each. Plain C++.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/tile_table.h"

namespace reshard::cuda {

inline constexpr std::uint32_t kBlockThreads = 256;

/// What a launch of copy_tiles works on; device addresses. Thread blocks get contiguous ranges of tiles, whose numbers
/// differ by at most one.
struct CopyBatch {
  const CopyBox* boxes;           ///< records, some of which are the BoxScales of the box before
  const Tile* tiles;              ///< the batch's first
  std::uint32_t tiles_per_block;  ///< rounded down
  std::uint32_t longer_blocks;    ///< the first so many blocks take one tile more

  constexpr std::uint32_t first_tile(std::uint32_t block) const {
    return block * tiles_per_block + (block < longer_blocks ? block : longer_blocks);
  }
};

/// Blocks that a batch of some tiles takes when it may take `most`, which are as many as are resident at a time: more
/// would wait. @pre both are at least 1
inline std::int64_t num_blocks_of(const TileRange& batch, std::int64_t most) {
  if (batch.has_scales) {
    const std::int64_t resident = most * kScaledBlocksPerMultiprocessor / kCopyBlocksPerMultiprocessor;
    most = std::max<std::int64_t>(1, resident);
  }
  return std::min(most, batch.num_tiles);
}

inline CopyBatch copy_batch(const DeviceTable& table, const TileRange& batch, std::int64_t num_blocks) {
  const auto* boxes = static_cast<const CopyBox*>(table.address);
  const auto* tiles = reinterpret_cast<const Tile*>(boxes + table.num_boxes) + batch.first_tile;
  return {boxes, tiles, static_cast<std::uint32_t>(batch.num_tiles / num_blocks),
          static_cast<std::uint32_t>(batch.num_tiles % num_blocks)};
}

/// What a launch of set_flags sets.
struct SetFlags {
  std::uint64_t* const* flags;
  std::int64_t num_flags;
  const std::uint64_t* epoch;
};

/// What a launch of advance_epoch counts up, and where it tells the host.
struct AdvanceEpoch {
  std::uint64_t* epoch;
  std::uint64_t* mirror;
};

}  // namespace reshard::cuda
