// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Sets of ranks as the machine sees them: by domain. Most choices of routing are made by domain, and there are few
// different sets (thousands of bundles have the same holders), so each set is sorted once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "src/layout/partition.h"
#include "topology/machine.h"

namespace reshard {

/// The ranks of one set by the domain they are in: domains in the order of DomainSets::place_of_domain().
struct RanksByDomain {
  std::vector<std::int32_t> domains;
  std::vector<std::int32_t> first;  ///< of each domain in ranks; one more entry, their number
  std::vector<std::int32_t> ranks;  ///< ascending within a domain

  std::size_t num_domains() const { return domains.size(); }
  std::span<const std::int32_t> ranks_of(std::size_t i) const {
    return {ranks.data() + first[i], static_cast<std::size_t>(first[i + 1] - first[i])};
  }
  /// Place of a domain in `domains`; -1 when no rank is in it.
  std::ptrdiff_t find(std::int32_t domain, const std::vector<std::int32_t>& place_of_domain) const;
};

/// Groups rank sets by domain, each once.
class DomainSets {
 public:
  DomainSets(const Machine& machine, const RankSets& sets);
  const RanksByDomain& of(std::int32_t set) const { return at(views_, set); }
  /// Domains by (pod, block, number): what visits them in this order crosses each boundary once.
  const std::vector<std::int32_t>& place_of_domain() const { return place_of_domain_; }
  /// Whether some rank of the set is in the domain.
  bool touches(std::int32_t set, std::int32_t domain) const { return of(set).find(domain, place_of_domain_) >= 0; }

 private:
  std::vector<std::int32_t> place_of_domain_;
  std::vector<RanksByDomain> views_;
};

}  // namespace reshard
