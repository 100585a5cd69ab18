// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/bounds/needed_bytes.h"

namespace reshard::bounds {

NeededBytes::NeededBytes(const Plan& plan, const DomainSets& domains) {
  const Machine& machine = *plan.options.machine;
  needed.resize(machine.gpus.size());
  copied.resize(machine.gpus.size());
  read.resize(machine.gpus.size());
  entering.resize(machine.domains.size());
  leaving.resize(machine.domains.size());
  for (const Bundle& bundle : plan.bundles) {
    const RanksByDomain& sources = domains.of(bundle.sources);
    const RanksByDomain& wanted = domains.of(bundle.destinations);
    const std::vector<std::int32_t>& holders = plan.sets.ranks(bundle.sources);
    bool is_sent = false;
    for (const std::int32_t rank : plan.sets.ranks(bundle.destinations)) {
      const bool is_local = plan.sets.contains(bundle.sources, rank);
      at(is_local ? copied : needed, rank) += bundle.size_bytes;
      is_sent = is_sent || !is_local;
    }
    if (is_sent && holders.size() == 1) at(read, holders.front()) += bundle.size_bytes;
    bool is_remote = false;
    for (const std::int32_t domain : wanted.domains) {
      if (domains.touches(bundle.sources, domain)) continue;
      at(entering, domain) += bundle.size_bytes;
      is_remote = true;
    }
    // Held in two domains, either may send it: no single one has to. Sets of domains are LB4's.
    if (is_remote && sources.num_domains() == 1) at(leaving, sources.domains.front()) += bundle.size_bytes;
  }
}

}  // namespace reshard::bounds
