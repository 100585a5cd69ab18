// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "kernels/copy_list_builder.h"
#include "src/layout/layout.h"
#include "src/plan/windows.h"

namespace reshard {

// From fragments of a plan, which are boxes of global indices, to copies between addresses. On the wire a fragment is
// dense and row-major; in memory it lies as the blocks of the rank say, of which it may meet several.

/// Where the scales are by which elements of a PlacedTensor become others, or 8-bit floats of it become others.
struct PlacedScales {
  const ScaleGrid* grid = nullptr;  ///< null: there are none
  const std::vector<Block>* blocks = nullptr;
  const std::vector<std::byte*>* buffers = nullptr;
  DType dtype = DType::kF32;
};

/// The blocks of one tensor on one rank and where its buffers lie: base address by buffer id.
struct PlacedTensor {
  const std::vector<Block>* blocks = nullptr;
  const std::vector<std::byte*>* buffers = nullptr;
  DType dtype = DType::kU8;
  PlacedScales scales = {};  ///< only of what is copied from: with these it is converted
};

/// Of the first element of `box`, which lies within the block.
std::byte* address_in(const PlacedTensor& tensor, const Block& block, const Box& box);

/// Calls visit(block, box) for boxes that tile what blocks hold of `wanted`: each element from the first that holds it.
void for_each_held(const PlacedTensor& tensor, const Box& wanted,
                   const std::function<void(const Block& block, const Box& box)>& visit);

/// A place in a window: the dtype of the fragment there, and its first byte.
struct WirePlace {
  DType dtype = DType::kU8;
  std::byte* address = nullptr;
};

/// Copies that put the fragment into a window. Elements the rank holds twice are taken once.
void append_pack(const PlacedTensor& src, const Fragment& fragment, const WirePlace& wire, CopyListBuilder* out);

/// Copies that take the fragment out of a window. Elements the rank wants twice are written twice.
void append_unpack(const PlacedTensor& dst, const Fragment& fragment, const WirePlace& wire, CopyListBuilder* out);

/// Copies straight from tensor to tensor.
void append_move(const PlacedTensor& src, const PlacedTensor& dst, const Fragment& fragment, CopyListBuilder* out);

/// The same of a box of global indices.
void append_move(const PlacedTensor& src, const PlacedTensor& dst, const Box& box, CopyListBuilder* out);

/// Fills the zero padding of the blocks.
void append_zero_fill(const PlacedTensor& dst, CopyListBuilder* out);

}  // namespace reshard
