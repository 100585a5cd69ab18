// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/plan.h"

namespace reshard {

/// Fills tensors, groups, classes, bundles and sets of `plan` from its layouts.
/// Errors: names, shapes, dtypes or rank counts that differ; a destination element that no source holds.
/// `unchanged`: what of an older plan holds for this one, too.
/// @post for every destination rank and tensor, the atoms whose destinations contain it tile its elements
Status intersect_layouts(Plan* plan, const Unchanged* unchanged = nullptr);

}  // namespace reshard
