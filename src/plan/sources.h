// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/plan.h"

namespace reshard {

/// Groups the bundles that must cross ranks into pools and lays out their lines; shares stay empty.
std::vector<Pool> make_pools(const Plan& plan);

/// Divides every pool's line over its sources by water-filling, with as few cuts inside a destination, a bundle, an
/// atom and a row, in that order, as a deviation of 2 % from the optimum allows. Sets shares and the certificate.
void choose_sources(Plan* plan);

}  // namespace reshard
