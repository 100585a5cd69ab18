// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/layout/layout.h"
#include "src/transport/transport.h"

namespace reshard {

/// Collective: merges layouts in which every rank has described only its own explicit buffers and blocks. Ranks whose
/// descriptions are equal (data-parallel replicas) send one.
/// Errors: RESHARD_ERR_LAYOUT_MISMATCH for a tensor described differently, RESHARD_ERR_INVALID_ARGUMENT (on every rank)
/// for a local layout with placements or with blocks of other ranks.
Result<ModelLayout> exchange_layout(const ModelLayout& local, Transport* transport, const Deadline& deadline);

}  // namespace reshard
