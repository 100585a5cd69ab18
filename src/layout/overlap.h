// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/layout/layout.h"

namespace reshard {

/// Refuses a destination in which two explicit blocks, or two elements of one, share a byte of a buffer.
/// Placements cannot overlap by construction. Exact: strided blocks may interleave.
Status check_no_overlap(const ModelLayout& layout);

}  // namespace reshard
