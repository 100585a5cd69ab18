// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "src/layout/layout.h"

namespace reshard {

/// A layout as bytes that any process, on any machine, reads back. Meshes and maps that tensors share are written once,
/// and read back shared: the planner goes by that.
std::vector<std::byte> serialize(const ModelLayout& layout);

/// Reads bytes that nobody vouches for: everything that the builders of a layout check is checked, and memory stays in
/// proportion to the bytes (at most some hundred times as much).
/// @post deserialize(serialize(layout)) has the same digest, tensors, buffers and blocks
/// Errors: RESHARD_ERR_INVALID_ARGUMENT for bytes that are no layout or are damaged, RESHARD_ERR_NOT_SUPPORTED for a
/// format that this version does not know.
Result<ModelLayout> deserialize(std::span<const std::byte> bytes);

}  // namespace reshard
