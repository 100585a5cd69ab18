// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>

#include "src/layout/layout.h"

namespace reshard {

/// Both sides of a transfer.
struct SpecLayouts {
  ModelLayout src;
  ModelLayout dst;
};

/// Reads the general JSON form, version 1. Each placement gets a buffer of its own under its tensor's name, unless it
/// names one: all placements of a side that name the same share it.
///
///     {"version": 1, "ranks": 8, "tensors": [
///       {"name": "w", "group": 0, "shape": [240, 241], "src": SIDE, "dst": SIDE}, ...]}
///     SIDE: {"dtype": "bf16", "mesh": {"axes": [["dp", 2], ["tp", 2]], "ranks": [0, 1, 2, 3]},
///            "placements": ["replicate", {"shard": 0, "rule": "chunk"}],      one per axis
///            "nest": "outer_first", "order": [1, 0], "pad_to": [120, 256],    these, "buffer", "offset" and "group"
///            "buffer": "all", "offset": 4096,                                 are optional; the offset is in bytes
///            "scales": {"kind": "block128", "tensor": "w_scale_inv"}}         of f8_e4m3: another tensor of this side
///     or a list of these: the tensor is placed more than once
///
/// "src" or "dst" may be left out: the tensor is on one side only.
/// A shard has at most one of "rule" (chunk, balanced, even), "cuts", "block" and "table".
/// Errors: RESHARD_ERR_INVALID_ARGUMENT with the place of the fault (line and column, or tensor, side, key), the value
/// and what is allowed.
/// Never throws for a malformed text; what it allocates is bounded by the text and by kMaxSegments of a dimension.
Result<SpecLayouts> parse_spec(const std::string& json);

}  // namespace reshard
