// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <algorithm>
#include <bit>

#include <fmt/format.h>

#include "src/transport/nccl/library.h"

namespace reshard {
namespace {

constexpr std::int32_t kCarriesRoundsFrom = 22907;
constexpr std::int32_t kSharesDevicesFrom = 23000;

// Of a kernel's 4096 bytes of arguments 32 say what holds for all, and a batch of operations takes 16.
constexpr std::int32_t kMostBatches = (4096 - 32) / 16;

}  // namespace

NcclFeatures nccl_features(std::int32_t version) {
  return {version >= kCarriesRoundsFrom, version >= kSharesDevicesFrom};
}

std::int64_t nccl_max_group_operations(std::int32_t version, std::int32_t max_ctas) {
  if (nccl_features(version).carries_rounds) return 0;
  // The channels to peers are rounded up to a power of two.
  const auto channels =
      static_cast<std::int32_t>(std::bit_ceil(static_cast<std::uint32_t>(std::clamp(max_ctas, 1, kNcclMostChannels))));
  return (kMostBatches - channels) / channels;
}

std::string nccl_version_text(std::int32_t version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

std::string NcclLibrary::text() const {
  return fmt::format("NCCL {} ({})", nccl_version_text(version_), path_);
}

}  // namespace reshard
