// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "src/plan/plan.h"

namespace reshard::testing {

/// Ranks 0 to 31, or domains, as bits.
using Mask = std::uint32_t;

/// Who has elements and who wants them.
struct Need {
  Mask sources = 0;
  Mask wanted = 0;
  std::int64_t group = 0;
  auto operator<=>(const Need&) const = default;
};

/// Wire bytes by need, found element by element from the blocks of the two layouts. @pre at most 32 ranks
std::map<Need, std::int64_t> needs_of(const ModelLayout& src, const ModelLayout& dst);

/// The bounds that follow from the needs alone, by name, as src/plan/bounds/bounds.h defines them; LB4 as the best of
/// all sets of domains, and only of at most kMostDomains.
inline constexpr std::size_t kMostDomains = 12;
std::map<std::string, double> brute_bounds(const Machine& machine, const std::map<Need, std::int64_t>& needs);

}  // namespace reshard::testing
