// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>

#include "src/layout/layout.h"

namespace reshard {

/// What lies on a rank, for people: buffer by buffer, each block in the order of its bytes.
///
///     rank 1 of 2: 1 buffer of 48 bytes, 2 blocks of 1 tensor
///     buffer 0 "w", 48 bytes
///       [0, 36) tensor 0 "w" F32 [3:6, 0:3], strides 12 4
///       [36, 48) tensor 0 "w" F32 zero [0:1, 0:3], strides 12 4
///
/// The bytes in front reach from the block's first to its last; others may lie between them where strides leave gaps.
std::string rank_text(const ModelLayout& layout, std::int32_t rank);

}  // namespace reshard
