// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/copy_list.h"
#include "src/layout/layout.h"
#include "src/plan/windows.h"

namespace reshard {

/// The blocks of one tensor on one rank and where its buffers lie: base address by buffer id.
struct PlacedTensor {
  const std::vector<Block>* blocks = nullptr;
  const std::vector<std::byte*>* buffers = nullptr;
  DType dtype = DType::kU8;
};

/// A copy between a tensor and a window, whose address is not known yet: the wire side of `op` is null and lies
/// wire_offset bytes into the window.
struct WireCopy {
  CopyOp op;
  std::int64_t wire_offset = 0;
};

/// Copies that put the fragment into a window from wire_offset on. Elements the rank holds twice are taken once.
void append_pack(const PlacedTensor& src, const Fragment& fragment, DType wire, std::int64_t wire_offset,
                 std::vector<WireCopy>* out);

/// Copies that take the fragment out of a window. Elements the rank wants twice are written twice.
void append_unpack(const PlacedTensor& dst, const Fragment& fragment, DType wire, std::int64_t wire_offset,
                   std::vector<WireCopy>* out);

/// Copies straight from tensor to tensor.
void append_move(const PlacedTensor& src, const PlacedTensor& dst, const Fragment& fragment, CopyList* out);

/// Fills the zero padding of the blocks.
void append_zero_fill(const PlacedTensor& dst, CopyList* out);

}  // namespace reshard
