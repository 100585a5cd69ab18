// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/device/flags.h"

#include <utility>

#include <fmt/format.h>

namespace reshard {

Result<ReadinessFlags> ReadinessFlags::create(std::int32_t device, std::int64_t num_flags) {
  if (num_flags < 0 || num_flags > (std::int64_t{1} << 32)) {
    return invalid_argument(fmt::format("{} readiness flags: at most 2^32 are possible", num_flags));
  }
  const std::size_t size_bytes = static_cast<std::size_t>(num_flags) * kStrideBytes;
  RESHARD_TRY(DeviceMemory memory, DeviceMemory::allocate(device, size_bytes));
  RESHARD_TRY(const Stream stream, Stream::create(device));
  RESHARD_TRY(fill_async(memory.data(), 0, size_bytes, stream));
  RESHARD_TRY(stream.synchronize());
  return ReadinessFlags(std::move(memory));
}

}  // namespace reshard
