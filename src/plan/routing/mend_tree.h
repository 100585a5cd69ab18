// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/domain_sets.h"
#include "src/plan/routing/tree.h"

namespace reshard::routing {

/// Who has a bundle and who wants it, in a plan that is made from an older one.
struct NewParties {
  const std::vector<std::int32_t>& holders;       ///< ascending
  const std::vector<std::int32_t>& destinations;  ///< ascending; those among the holders lack nothing
  const std::vector<bool>& is_gone;               ///< by rank: it had a part in the old plan, and has none in the new
};

/// An old tree without those who are gone or do not want the bytes any more, and with other holders in place of those
/// that have them no more. Whom such a rank fed is fed by one of them, if one is in the rank's domain, and else by what
/// fed the rank. Who cannot be reached so is left out, and so are those behind; who is new is not in it.
/// @param salt which of several holders takes a lost one's place
Tree mend_tree(const Fabric& fabric, const Tree& old, const NewParties& parties, std::uint32_t salt);

}  // namespace reshard::routing
