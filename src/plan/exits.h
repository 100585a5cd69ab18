// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Who sends. Every domain has its landings by now; what is open is from which holder the bytes of each come, by whose
// port they leave, and whether the landing gets a copy of its own or one that another domain hands on. One passage is
// the answer for one range of bytes.
#pragma once

#include <vector>

#include "src/plan/landings.h"

namespace reshard {

/// What the landings of a passage are to each other.
enum class Relation : std::int8_t {
  kChain,      ///< ranks of different domains, each of which hands the bytes on to the next
  kNeighbour,  ///< one rank, in the origin's own domain
  kEach,       ///< ranks that get a copy each from the origin: as many passages of one landing
};

/// Bytes that leave a rank's port, or its link.
struct Passage {
  std::int32_t origin = -1;  ///< the holder they are read from
  std::int32_t exit = -1;    ///< whose port they leave by: the origin, or a rank of its domain that stages them
  Range range;
  std::int64_t first_landing = 0;  ///< in Passages::landings; passages to each of the same ranks share them
  std::int32_t num_landings = 0;
  Relation relation = Relation::kChain;
};

struct Passages {
  std::vector<Passage> all;
  std::vector<std::int32_t> landings;  ///< ranks; each passage has a run of them, a chain's in its order
  Certificate certificate;             ///< of the last fill: with the chains and candidates that came out
};

/// Chooses for all bytes that must cross ranks which of their holders send them, how many copies leave the sources and
/// which domains pass them on.
///
/// Holders are filled by water to the min-max level. Every domain gets its bytes straight from a source if the sources'
/// ports are then no busier than the busiest domain's must be; where they would be, chains over the domains grow longer
/// until they are not, so that fewer copies leave the sources. Before that, the choice of holders widens from those on
/// the landing's own leaf switch over those on its rail to all; after it, other ranks of the holders' domains lend
/// their ports.
Result<Passages> choose_exits(const Plan& plan, const Network& network, const DomainSets& domains, Landings landings,
                              const Kept& kept);

}  // namespace reshard
