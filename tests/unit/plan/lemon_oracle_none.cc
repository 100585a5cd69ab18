// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/plan/lemon_oracle.h"

namespace reshard {

bool has_lemon() {
  return false;
}

std::int64_t lemon_min_level(const std::vector<LemonDemand>&, const std::vector<std::int64_t>&,
                             const std::vector<std::int64_t>&) {
  return 0;
}

std::int64_t lemon_min_assignment(const std::vector<std::int64_t>&, std::int32_t) {
  return 0;
}

}  // namespace reshard
