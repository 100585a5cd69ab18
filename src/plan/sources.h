// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/plan.h"

namespace reshard {

/// Divides what must cross ranks over the ranks that hold it, by water-filling, with as few cuts inside a destination, a
/// bundle, an atom and a row, in that order, as a deviation of 2 % from the optimum allows. Sets routes and certificate.
void choose_sources(Plan* plan);

}  // namespace reshard
