// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/layout/layout.h"
#include "src/transport/transport.h"

namespace reshard::api {

/// Collective: merges layouts in which every rank has described only its own explicit buffers and blocks. Of ranks
/// whose descriptions are equal (data-parallel replicas) one sends it. Errors, on every rank when one has them:
/// RESHARD_ERR_LAYOUT_MISMATCH for a tensor described differently, RESHARD_ERR_INVALID_ARGUMENT for a local layout with
/// placements, with buffers of other ranks, or of another world.
Result<ModelLayout> exchange_layout(const ModelLayout& local, Transport* transport, const Deadline& deadline);

}  // namespace reshard::api
