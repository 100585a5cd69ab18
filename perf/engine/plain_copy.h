// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>

#include "perf/data/arena.h"
#include "perf/engine/collective.h"

namespace reshard::perf {

/// What the ranks of this run could do at best with memory copies: every rank that takes part copies size_bytes with
/// memcpy, or within its device, all at the same time. Returns the bytes per second of each while the slowest was at
/// it, the median of a few rounds; 0 for size_bytes 0. Collective.
double plain_copy_bytes_per_second(const Ranks& ranks, const MemoryChoice& memory, std::int64_t size_bytes,
                                   bool takes_part);

}  // namespace reshard::perf
