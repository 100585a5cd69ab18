// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/layout/layout.h"

namespace reshard {

/// The blocks of the tensors on one rank, computed once each.
class BlockCache {
 public:
  BlockCache(const ModelLayout& layout, std::int32_t rank)
      : layout_(&layout), rank_(rank), blocks_(layout.tensors().size()), is_known_(layout.tensors().size()) {}

  std::int32_t rank() const { return rank_; }

  const std::vector<Block>& blocks(std::int64_t tensor) {
    std::vector<Block>& blocks = at(blocks_, tensor);
    if (!at(is_known_, tensor)) {
      blocks = layout_->blocks(rank_, tensor);
      at(is_known_, tensor) = true;
    }
    return blocks;
  }

 private:
  const ModelLayout* layout_;
  std::int32_t rank_;
  std::vector<std::vector<Block>> blocks_;  // by tensor
  std::vector<bool> is_known_;              // by tensor; a rank may have no block of one
};

}  // namespace reshard
