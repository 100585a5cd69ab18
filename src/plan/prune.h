// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "src/plan/network.h"

namespace reshard {

/// The hops of a route without those destinations for which `is_wanted` is false (by hop). What came after a rank that
/// is left out comes from a rank of its domain that still gets the bytes, or from the one before it.
/// Nothing when some rank could then not be reached, or a domain would be entered twice.
std::optional<std::vector<Hop>> prune(const Network& network, std::span<const Hop> hops,
                                      const std::vector<bool>& is_wanted);

}  // namespace reshard
