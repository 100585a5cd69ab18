// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Every handle that the program gives to a destroy function of the library, and memory that it gives to reshard_free.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace hpp_test {

/// By the name of the function, in the order of the calls, NULL included.
using Destroyed = std::map<std::string, std::vector<const void*>>;

/// What was destroyed since the last call of this.
Destroyed take_destroyed();

}  // namespace hpp_test
