// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <functional>

#include "kernels/canonical_op.h"
#include "kernels/tile.h"

namespace reshard {

/// Calls `emit` for boxes that together are the copy. A box has three dims with strides of its own, of which two must
/// have strides below 2 GiB; of a copy with more the shorter dims are expanded, one box for each index.
void for_each_box(const CanonicalOp& op, const std::function<void(const CopyBox&)>& emit);

}  // namespace reshard
