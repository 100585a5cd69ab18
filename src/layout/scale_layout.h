// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Layouts that follow from another tensor's: its scales, block by block, or a place where its elements land before they
// are converted, which is the same with blocks of one element.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>

#include "src/layout/layout.h"

namespace reshard {

/// A border of a piece that lies inside a block.
struct CutBlock {
  int dim = 0;
  std::int64_t border = 0;  ///< an index of the dim
  std::int64_t block = 0;   ///< extent of the blocks there
};

/// Whether each block that a rank holds any element of lies in one piece of its memory; if not, the first border that
/// is in the way. Pieces that only follow each other in memory count as two: a pass over a block reads one strided box.
std::optional<CutBlock> find_cut_block(const ModelLayout& layout, std::int64_t tensor, const ScaleGrid& grid);

/// The grid whose blocks are single elements.
ScaleGrid element_grid(const std::vector<std::int64_t>& shape);

/// Adds tensors beside others. One object for a layout: what is cut alike shares its maps, as the planner needs it.
class BesidePlacer {
 public:
  explicit BesidePlacer(ModelLayout* layout) : layout_(layout) {}

  /// Adds a tensor that holds, on each rank and for each placement or block of `beside`, all blocks that it meets:
  /// dense, in a buffer of its own, without padding. Its name gets primes until it is new. Gives its index.
  Result<std::int64_t> add_dense(std::int64_t beside, const ScaleGrid& grid, Tensor tensor);

  /// Places the tensor `scales`, which the layout has, as `beside` is placed: in buffers for which `buffer` gives the
  /// id by the id of the other's, at the other's place there divided by the block. Errors: RESHARD_ERR_INVALID_ARGUMENT
  /// for a piece, or its place in a buffer, that begins or ends inside a block.
  Status place_alike(std::int64_t beside, const ScaleGrid& grid, std::int64_t scales,
                     const std::map<std::int64_t, std::int64_t>& buffer);

 private:
  enum class Packing { kDense, kAlike };
  Result<DimMapPtr> blocks_of(const DimMapPtr& map, std::int64_t extent, std::int64_t block, Packing packing);
  Result<Placement> placement_beside(const Placement& placement, const ScaleGrid& grid, Packing packing);
  Status add_blocks_beside(std::int64_t beside, const ScaleGrid& grid, std::int64_t tensor);

  ModelLayout* layout_;
  // By map, extent of the dim, and of the block. The first is kept alive, so that no other gets its address.
  std::map<std::tuple<DimMapPtr, std::int64_t, std::int64_t, Packing>, DimMapPtr> maps_;
};

}  // namespace reshard
