// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <nccl.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nccl_double {

/// Bytes of an element; 0: no such type.
std::uint64_t bytes_of(ncclDataType_t type);

/// Whether sums of it are played here: integers, floats and doubles.
bool has_sum(ncclDataType_t type);

/// Adds the buffers, in their order.
void reduce(const std::vector<std::vector<std::byte>>& from, std::uint64_t count, ncclDataType_t type, std::byte* to);

}  // namespace nccl_double
