// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "src/layout/box.h"

namespace reshard {

enum class BlockKind { kData, kZero, kUntouched };

/// One rank's strided piece of a tensor: the element at global index i lies at
/// offset_bytes + sum((i[d] - box.begin[d]) * strides_bytes[d]) of the buffer.
struct Block {
  BlockKind kind = BlockKind::kData;
  std::int64_t tensor = -1;
  std::int64_t buffer = -1;
  Box box;           ///< kData: global indices. Padding: [0, extent) per dim
  Dims local_begin;  ///< place in the rank's local tensor, padding included
  std::int64_t offset_bytes = 0;
  Dims strides_bytes;
};

/// A block of one rank that was given as such.
struct RankBlock {
  std::int32_t rank = 0;
  Block block;
};

/// Elements [begin, end) of the flattened tensor, one behind another from offset_bytes of the buffer on.
struct FlatRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t buffer = -1;
  std::int64_t offset_bytes = 0;
};

/// What ranks were given of one tensor apart from placements: blocks, and flat ranges, which are kept as such. A range
/// that begins and ends inside rows is up to 2 * num_dims - 1 blocks of seven times its size each, and flat units of
/// thousands of ranks are ranges by the hundred thousand: their boxes are made when they are read.
class RankBlocks {
 public:
  /// Of a tensor of this index, shape and size of an element.
  RankBlocks(std::int64_t tensor, const std::vector<std::int64_t>& shape, std::int64_t element_bytes);

  /// @pre what is given lies in the tensor, and its bytes in the buffer
  void add(const RankBlock& given);
  void add(std::int32_t rank, const FlatRange& range);

  bool empty() const { return pieces_.empty(); }

  static constexpr std::int32_t kEveryRank = -1;

  /// Calls visit for each block of the rank, or of every rank: in the order in which they were given, which digests
  /// tell; ranges as the boxes that they are.
  void for_each(std::int32_t rank, const std::function<void(const RankBlock&)>& visit) const;

  /// Takes what the ranks have.
  void remove_ranks(const std::vector<std::int32_t>& lost);

 private:
  struct Piece {
    std::int32_t rank = 0;
    std::int64_t block = -1;  ///< number of the block, or -1: the range
    FlatRange range;
  };

  std::int64_t tensor_;
  Box whole_;
  Dims strides_bytes_;  ///< of the tensor, dense and row-major, as its ranges are
  std::int64_t element_bytes_;
  std::vector<Piece> pieces_;
  std::vector<Block> blocks_;
};

}  // namespace reshard
