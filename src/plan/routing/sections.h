// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A job of many replicas on a machine of many racks is often a smaller job many times over: its ranks fall into
// sections that hold and want the same in the same places. What is chosen for one section then holds for its twins, and
// choosing takes as long as for the smaller job.
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/plan.h"

namespace reshard::routing {

/// What sections have in common beyond their ranks.
enum class Shared : std::int8_t {
  kNothing,  ///< each has pods and leaves of its own
  kPods,     ///< their ways to the core, each as much of every pod's as another
  kLeaves,   ///< those of leaves, too
};

/// Ranks by section, equally many in each. Ranks at the same place of their sections are twins: they hold and want the
/// same bundles, and the machine joins the twins of two ranks as it joins these. No two sections share a port.
struct Sections {
  std::vector<std::vector<std::int32_t>> ranks;  ///< ascending in the first; fewer than two: there are none
  Shared shared = Shared::kNothing;
  std::size_t count() const { return ranks.size(); }
};

/// As many sections as there can be. Ranks that neither hold nor want anything may be in none.
/// @post whoever wants a bundle has a holder in its section
Sections find_sections(const Plan& plan);

/// The job of the first section: rank i is the one at place i, bundles have their numbers, and of what sections share
/// each has an equal part. It has what choosing trees takes where there is no limit of open groups, and no more.
Plan job_of_section(const Plan& plan, const Sections& sections);

}  // namespace reshard::routing
