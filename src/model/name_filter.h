// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/status.h"
#include "src/model/parameter.h"

namespace reshard {

/// Whether a name is as the pattern says: * stands for any run of characters, dots too, ? for one.
bool matches(std::string_view pattern, std::string_view name);

/// Indices of the parameters whose checkpoint names some pattern of `include` matches (all, when there is none) and no
/// pattern of `exclude`. Errors: a pattern that matches no parameter, for it is mistyped; a selection without any.
Result<std::vector<std::size_t>> select_by_name(const Model& model, const std::vector<std::string>& include,
                                                const std::vector<std::string>& exclude);

}  // namespace reshard
