// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Asks before memory is taken, because afterwards is too late twice: Linux hands out more address space than it has
// memory and ends a process that uses it, and UCX 1.13 dies of a signal where address space ends under it.
#pragma once

#include <cstddef>

#include "src/base/status.h"

namespace reshard {

/// Bytes that this process can still make its own: what the host has available, what its control group and its limit of
/// address space leave. Some of it may be gone by the time it is asked for.
std::size_t memory_left();

/// RESHARD_ERR_OUT_OF_MEMORY for more than that. Made for memory that is touched at once: the kernel gives address
/// space for more than there is, and kills whoever uses it.
Status check_memory_left(std::size_t size_bytes);

/// RESHARD_ERR_OUT_OF_MEMORY when the process's limit of address space (RLIMIT_AS) does not let it map a peer's segment
/// of this size, which costs address space and no memory.
Status check_address_space(std::size_t size_bytes);

}  // namespace reshard
