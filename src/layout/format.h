// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/base/hasher.h"

namespace reshard::format {

// A layout as bytes, version 1, or 2 where tensors have scales. All but the magic and the checksum is written by
// PackedWriter; a list is its length and its entries:
//
//   magic      8 bytes
//   version
//   ranks      of the world
//   meshes     [[name, size], ...] of the axes, ranks (each less the one before and one; a rank that left is -1)
//   maps       owns_padding, parts: extent, segments: [begin less the end before, length, local less the end before]
//   buffers    name, dtype, rank, size in bytes, by_offset
//   tensors    name, dtype, group, shape,
//              placements: mesh, per dim [map + 1 or 0, axes], order, buffer, offset, padding
//              blocks: rank, kind, buffer, offset, per dim [begin, end, stride]
//   scales     only in version 2: [tensor, kind, scale tensor], ...
//   checksum   8 bytes, the lowest first, of all before
//
// Meshes, maps and buffers are named by their place in their list.

inline constexpr char kMagic[9] = "RESHARDL";
inline constexpr std::size_t kMagicBytes = 8;
inline constexpr std::size_t kChecksumBytes = 8;
inline constexpr std::int64_t kVersion = 1;
inline constexpr std::int64_t kVersionWithScales = 2;  // so that older libraries go on reading all others

inline std::uint64_t checksum(std::span<const std::byte> bytes) {
  Hasher hasher;
  hasher.add_all(std::vector<std::byte>(bytes.begin(), bytes.end()));
  return hasher.digest();
}

}  // namespace reshard::format
