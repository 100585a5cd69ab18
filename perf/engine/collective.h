// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The few collectives that a benchmark needs, over the all-gather of the public API: no second library of messages
// beside the one that is measured.
#pragma once

#include <cstdint>
#include <vector>

#include "reshard/reshard.h"

namespace reshard::perf {

/// The ranks of a run, as one of them sees it.
struct Ranks {
  reshard_comm_t comm = nullptr;
  std::int32_t rank = 0;
  std::int32_t num_ranks = 0;
  std::int64_t timeout_us = 0;
};

/// Asks the comm who this rank is.
Ranks make_ranks(reshard_comm_t comm, std::int64_t timeout_us);

// Collective: every rank calls them with vectors of the same length and gets the same result.
void barrier(const Ranks& ranks);
std::vector<double> max_over_ranks(const Ranks& ranks, const std::vector<double>& values);
std::vector<std::int64_t> sum_over_ranks(const Ranks& ranks, const std::vector<std::int64_t>& values);

}  // namespace reshard::perf
