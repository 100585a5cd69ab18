// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/plan.h"

namespace reshard {

/// Fills patterns and runs of `plan`, and pattern, first_run and size_bytes of its bundles.
/// @pre tensors, classes and bundles are there; the atoms of each class are ordered by bundle, and each bundle has some
/// @post bundles of which every class of tensors has equally many elements share one pattern
void compose_bundles(Plan* plan);

}  // namespace reshard
