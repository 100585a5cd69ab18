// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>

#include "src/base/bytes.h"
#include "src/base/status.h"

namespace reshard {

/// The collective call in which a rank binds. Each says something else to the other ranks, in another number of
/// exchanges, so the call leads whatever a rank says first: ranks that are not in the same one find out before they
/// misread each other, and stay in step, since every call begins with one exchange among all ranks.
enum class BindCall : std::int64_t { kCreateBinding = 0, kUpdateBinding = 1, kCreateReload = 2, kUpdateReload = 3 };

void write_call(BindCall call, ByteWriter* writer);

/// Reads the call of `rank`. Errors: RESHARD_ERR_INVALID_ARGUMENT that names both calls where it is not `mine`,
/// RESHARD_ERR_TRANSPORT for words that no call that binds begins with.
Status read_same_call(BindCall mine, std::int32_t rank, ByteReader* reader);

}  // namespace reshard
