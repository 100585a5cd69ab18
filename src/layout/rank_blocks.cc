// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/layout/rank_blocks.h"

#include <algorithm>

#include "src/base/at.h"

namespace reshard {

RankBlocks::RankBlocks(std::int64_t tensor, const std::vector<std::int64_t>& shape, std::int64_t element_bytes)
    : tensor_(tensor), whole_(whole_box(shape)), element_bytes_(element_bytes) {
  std::int64_t stride = element_bytes;
  for (int d = whole_.num_dims - 1; d >= 0; --d) {
    strides_bytes_[d] = stride;
    stride *= whole_.extent(d);
  }
}

void RankBlocks::add(const RankBlock& given) {
  pieces_.push_back({given.rank, static_cast<std::int64_t>(blocks_.size()), {}});
  blocks_.push_back(given.block);
}

void RankBlocks::add(std::int32_t rank, const FlatRange& range) {
  pieces_.push_back({rank, -1, range});
}

void RankBlocks::for_each(std::int32_t rank, const std::function<void(const RankBlock&)>& visit) const {
  RankBlock given;
  for (const Piece& piece : pieces_) {
    if (rank != kEveryRank && piece.rank != rank) continue;
    given.rank = piece.rank;
    if (piece.block >= 0) {
      given.block = at(blocks_, piece.block);
      visit(given);
      continue;
    }
    const FlatRange& range = piece.range;
    given.block = {BlockKind::kData, tensor_, range.buffer, {}, {}, 0, strides_bytes_};
    for_each_box_of_range(whole_, range.begin, range.end, [&](const Box& box, std::int64_t position) {
      given.block.box = box;
      given.block.offset_bytes = range.offset_bytes + (position - range.begin) * element_bytes_;
      visit(given);
    });
  }
}

void RankBlocks::remove_ranks(const std::vector<std::int32_t>& lost) {
  // Their blocks stay in blocks_, where nothing names them any more: the numbers of the others must not change.
  std::erase_if(pieces_,
                [&](const Piece& piece) { return std::find(lost.begin(), lost.end(), piece.rank) != lost.end(); });
}

}  // namespace reshard
