// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "src/plan/domain_sets.h"
#include "src/plan/plan.h"

namespace reshard::routing {

/// Who has the bytes of a bundle and who lacks them, by domain. Made when a bundle is looked at: all of them together
/// would be most of the planner's memory. The sets must outlive it.
class Audience {
 public:
  struct Place {
    DomainId domain;
    std::span<const std::int32_t> holders;  ///< ranks of the domain that have the bytes, ascending
    std::span<const std::int32_t> lacking;  ///< that want them and have not got them, ascending
  };

  Audience(const DomainSets& domains, const Bundle& bundle);
  Audience(const Audience&) = delete;  // places look into lacking_
  Audience& operator=(const Audience&) = delete;

  /// Domains in which somebody has or lacks the bytes, in the order of DomainSets::place_of_domain().
  const std::vector<Place>& places() const { return places_; }
  std::size_t num_lacking() const { return lacking_.size(); }
  std::size_t num_holders() const { return num_holders_; }

 private:
  std::vector<Place> places_;
  std::vector<std::int32_t> lacking_;
  std::size_t num_holders_ = 0;
};

}  // namespace reshard::routing
