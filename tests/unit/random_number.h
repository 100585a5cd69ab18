// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <rapidcheck.h>

#include <cstdint>

namespace reshard {

/// Uniform in [low, high] from the first case on: extents are small anyway, and growing ranges would waste the cases.
inline std::int64_t random(std::int64_t low, std::int64_t high) {
  return *rc::gen::resize(rc::kNominalSize, rc::gen::inRange(low, high + 1));
}

}  // namespace reshard
