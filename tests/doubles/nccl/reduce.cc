// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/nccl/reduce.h"

#include <cstring>

namespace nccl_double {
namespace {

template <typename Element>
void add_all(const std::vector<std::vector<std::byte>>& from, std::uint64_t count, std::byte* to) {
  for (std::uint64_t index = 0; index < count; ++index) {
    Element sum{};
    for (const auto& buffer : from) {
      Element value{};
      std::memcpy(&value, buffer.data() + index * sizeof value, sizeof value);
      sum = static_cast<Element>(sum + value);
    }
    std::memcpy(to + index * sizeof sum, &sum, sizeof sum);
  }
}

}  // namespace

std::uint64_t bytes_of(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
    case ncclFloat8e4m3:
    case ncclFloat8e5m2:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
      return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
      return 8;
    default:
      return 0;
  }
}

bool has_sum(ncclDataType_t type) {
  return type <= ncclUint64 || type == ncclFloat32 || type == ncclFloat64;
}

void reduce(const std::vector<std::vector<std::byte>>& from, std::uint64_t count, ncclDataType_t type, std::byte* to) {
  switch (type) {
    case ncclFloat32:
      return add_all<float>(from, count, to);
    case ncclFloat64:
      return add_all<double>(from, count, to);
    case ncclInt64:
    case ncclUint64:
      return add_all<std::uint64_t>(from, count, to);
    case ncclInt32:
    case ncclUint32:
      return add_all<std::uint32_t>(from, count, to);
    default:
      return add_all<std::uint8_t>(from, count, to);
  }
}

}  // namespace nccl_double
