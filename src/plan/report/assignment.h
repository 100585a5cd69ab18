// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

namespace reshard {

/// The column of every row in a perfect matching of least total cost; cost[row * n + column], each within +-2^50.
///
/// Shortest augmenting paths in reduced costs, one per row that a greedy start leaves over: O(n^3) at worst, the same
/// answer everywhere for the same costs.
/// Rejected: auction algorithms, whose time grows with the magnitude of the costs.
std::vector<std::int32_t> assign(const std::vector<std::int64_t>& cost, std::int32_t n);

}  // namespace reshard
