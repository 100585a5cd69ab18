// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "src/base/status.h"

namespace reshard {

/// The names of a list as Slurm writes them: "n[0001-0512,0600],login1"; zeros in front set the width.
/// Errors: brackets that do not match, ranges that end before they start, more than 2^20 names.
Result<std::vector<std::string>> expand_node_list(std::string_view text);

}  // namespace reshard
