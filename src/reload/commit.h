// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <vector>

#include "kernels/copy_list.h"
#include "src/reload/layers.h"

namespace reshard {

/// By position: what of the layer is copied from scratch to where it stays. Of buffers, what a run of the plan writes:
/// gaps in them are not the plan's. Of outputs, all. Empty where nothing is. @pre the map was placed
std::vector<CopyList> commit_copies(const Plan& plan, std::int32_t rank, const LayerMap& map);

}  // namespace reshard
