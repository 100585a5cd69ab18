// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <memory>
#include <vector>

#include "src/transport/transport.h"

namespace reshard {

/// num_ranks connected transports for threads of one process, [r] for rank r. Nothing is ever buffered: a receive
/// copies straight from the sender's memory, on the receiver's thread. The transports may be destroyed in any order,
/// from any thread; memory that one allocated must not be read by peers after it is gone.
Result<std::vector<std::unique_ptr<Transport>>> create_local_transports(std::int32_t num_ranks);

}  // namespace reshard
