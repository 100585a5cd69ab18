// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/audience.h"

#include <algorithm>

namespace reshard::routing {

Audience::Audience(const DomainSets& domains, const Bundle& bundle) {
  const RanksByDomain& sources = domains.of(bundle.sources);
  const RanksByDomain& wanted = domains.of(bundle.destinations);
  const auto place = [&](std::int32_t domain) { return at(domains.place_of_domain(), domain); };
  lacking_.reserve(wanted.ranks.size());  // so that spans into it stay valid
  std::size_t s = 0;
  std::size_t w = 0;
  while (s < sources.num_domains() || w < wanted.num_domains()) {
    const bool has_source = s < sources.num_domains() &&
                            (w == wanted.num_domains() || place(sources.domains[s]) <= place(wanted.domains[w]));
    const bool has_wanted = w < wanted.num_domains() &&
                            (s == sources.num_domains() || place(wanted.domains[w]) <= place(sources.domains[s]));
    Place next{DomainId(has_source ? sources.domains[s] : wanted.domains[w]), {}, {}};
    if (has_source) next.holders = sources.ranks_of(s++);
    if (has_wanted) {
      const std::span<const std::int32_t> ranks = wanted.ranks_of(w++);
      const std::size_t first = lacking_.size();
      std::set_difference(ranks.begin(), ranks.end(), next.holders.begin(), next.holders.end(),
                          std::back_inserter(lacking_));
      next.lacking = {lacking_.data() + first, lacking_.size() - first};
    }
    num_holders_ += next.holders.size();
    if (!next.holders.empty() || !next.lacking.empty()) places_.push_back(next);
  }
}

}  // namespace reshard::routing
