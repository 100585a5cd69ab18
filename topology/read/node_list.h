// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/status.h"

namespace reshard {

/// Most nodes that files name one by one: ten times the largest cluster of today. Thirty bytes of a node list can ask
/// for millions, so lists are counted before a name is made.
inline constexpr std::int64_t kMaxNamedNodes = 1 << 17;

/// The names of a list as Slurm writes them: "n[0001-0512,0600],login1"; zeros in front set the width.
/// Errors: brackets that do not match, ranges that end before they start, more than `most` names.
Result<std::vector<std::string>> expand_node_list(std::string_view text, std::int64_t most = kMaxNamedNodes);

}  // namespace reshard
