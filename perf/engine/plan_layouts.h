// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What the page draws of the two layouts. A model has thousands of tensors and few kinds of them, those whose names
// differ only in numbers: the first of each kind stands for all.
#pragma once

#include <nlohmann/json.hpp>

#include "reshard/reshard.h"

namespace reshard::perf {

/// {"kinds": [...], "left_out": number of kinds that are too many}. Of a kind: "kind" (the name with its numbers
/// replaced), "tensor" (the one that is drawn), "tensors" (how many there are), "shape", "src" and "dst", null where
/// the side has none of the name. Of a side: "dtype", "num_boxes", and "boxes", the first ones: "begin", "end", "ranks"
/// as text, "num_ranks" that hold the box.
nlohmann::json layout_pictures(reshard_layout_t src, reshard_layout_t dst);

}  // namespace reshard::perf
