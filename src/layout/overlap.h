// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/layout/layout.h"

namespace reshard {

/// Refuses a destination in which two writers share a byte of a buffer: explicit blocks (exactly: strided blocks may
/// interleave), elements of one block, or placements at offsets.
Status check_no_overlap(const ModelLayout& layout);

}  // namespace reshard
