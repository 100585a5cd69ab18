// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "src/plan/network.h"

namespace reshard {

/// The hops of a route without those destinations for which `is_wanted` is false (by hop; of hops into staging it is
/// not asked, they stay as long as something follows them). What came after a rank that is left out comes from a rank
/// of its domain that still gets the bytes, or from the one before it. Parents come before children again, steps and
/// delays are right.
/// Nothing when some rank could then not be reached, or a domain would be entered twice. An empty list when nobody
/// wants the bytes any more.
std::optional<std::vector<Hop>> prune(const Network& network, std::span<const Hop> hops,
                                      const std::vector<bool>& is_wanted);

}  // namespace reshard
