// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>

#include "src/transport/bootstrap.h"

namespace reshard {

/// UCX ends the process on a worker address that is not one. So addresses travel with a checksum, and what does not
/// agree with its own is refused. That finds damage and other programs; against forgers there is the job's secret.
Blob seal_address(const Blob& address);

/// RESHARD_ERR_TRANSPORT naming the rank.
Result<Blob> open_address(const Blob& sealed, std::int32_t rank);

}  // namespace reshard
