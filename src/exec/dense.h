// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "src/exec/block_cache.h"
#include "src/plan/windows.h"

namespace reshard {

/// A place in one of a rank's buffers.
struct BufferPlace {
  std::int64_t buffer = -1;
  std::int64_t offset_bytes = 0;
};

/// One side of the plan on one rank.
struct RankSide {
  bool is_source = false;
  BlockCache* blocks = nullptr;
};

/// Where the window lies in the rank's tensors in one run of bytes, as it is on the wire: then it is sent from there,
/// or received there, and nothing is packed. Empty: it does not, or is wanted in more places than one.
std::optional<BufferPlace> dense_place(const Plan& plan, const RankSide& side, const Window& window);

/// The dtype of a tensor of the plan on the wire: the shorter one of both sides.
DType wire_dtype_of(const Plan& plan, std::int64_t tensor);

}  // namespace reshard
