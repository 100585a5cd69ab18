// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Machines so small that trying everything takes milliseconds, but with all that a machine can have: pods, leaves,
// ports that are shared or missing, domains whose ports hang on several leaves, isolated rails, links without a limit.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/optimum/random.h"
#include "topology/machine.h"

namespace reshard::testing {

/// Of 2 to 7 ranks. All links that have a limit have the same: tests draw loads, or prices.
Machine draw_machine(optimum::Random& random);

/// Who has some bytes and who wants them; ranks ascend.
struct Need {
  std::vector<std::int32_t> sources, destinations;
  std::vector<std::int32_t> lacking;  ///< destinations that are no sources; may be none
};
Need draw_need(optimum::Random& random, int num_ranks);

}  // namespace reshard::testing
