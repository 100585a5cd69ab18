// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/api/config.h"

#include <cstdlib>

namespace reshard::api {

const char* read_environment(const char* name) {
  return std::getenv(name);
}

}  // namespace reshard::api
