// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <functional>

#include "kernels/canonical_op.h"
#include "kernels/scale_list.h"
#include "kernels/tile.h"

namespace reshard {

/// A box, and what follows it if has_scales(box.kind).
struct ShapedBox {
  CopyBox box;
  BoxScales scales;
};

/// Calls `emit` for boxes that together are the copy. A box has three dims with strides of its own, of which two must
/// have strides below 2 GiB; of a copy with more the shorter dims are expanded, one box for each index.
void for_each_box(const CanonicalOp& op, const std::function<void(const ShapedBox&)>& emit);

/// Likewise for scales that are made.
void for_each_box(const ScaleOp& op, const std::function<void(const ShapedBox&)>& emit);

}  // namespace reshard
