// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/direct/needs.h"

#include <algorithm>
#include <iterator>

namespace reshard::direct {

bool Kept::serves(std::int32_t bundle, std::int32_t rank) const {
  return !served.empty() && std::binary_search(at(served, bundle).begin(), at(served, bundle).end(), rank);
}

Needs needs_of(const Plan& plan, const Kept& kept) {
  Needs out;
  for (std::size_t b = 0; b < plan.bundles.size(); ++b) {
    const Bundle& bundle = plan.bundles[b];
    if (bundle.size_bytes == 0) continue;
    const auto id = static_cast<std::int32_t>(b);
    const std::vector<std::int32_t>& wanted = plan.sets.ranks(bundle.destinations);
    const std::vector<std::int32_t>& held = plan.sets.ranks(bundle.sources);
    std::vector<std::int32_t> lacking;
    std::set_difference(wanted.begin(), wanted.end(), held.begin(), held.end(), std::back_inserter(lacking));
    std::erase_if(lacking, [&](std::int32_t rank) { return kept.serves(id, rank); });
    if (!lacking.empty()) out.all.push_back({id, out.receivers.intern(std::move(lacking))});
  }
  return out;
}

}  // namespace reshard::direct
