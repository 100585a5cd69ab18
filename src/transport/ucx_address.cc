// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/ucx_address.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "src/transport/bootstrap_secret.h"

namespace reshard {
namespace {

// The hash of the handshake serves, as it is here already; with a key in the open it proves nothing about who sent it.
std::uint64_t checksum_of(std::span<const std::byte> address) {
  constexpr Secret kKnownToAll{{0x55435820, 0x61646472}};  // a checksum, not a proof
  return keyed_hash(kKnownToAll, address);
}

}  // namespace

Blob seal_address(const Blob& address) {
  const std::uint64_t checksum = checksum_of(address);
  Blob sealed(sizeof(checksum) + address.size());
  std::memcpy(sealed.data(), &checksum, sizeof(checksum));
  std::copy(address.begin(), address.end(), sealed.begin() + sizeof(checksum));
  return sealed;
}

Result<Blob> open_address(const Blob& sealed, std::int32_t rank) {
  std::uint64_t checksum = 0;
  if (sealed.size() > sizeof(checksum)) {
    std::memcpy(&checksum, sealed.data(), sizeof(checksum));
    Blob address(sealed.begin() + sizeof(checksum), sealed.end());
    if (checksum == checksum_of(address)) return address;
  }
  return Status(RESHARD_ERR_TRANSPORT, fmt::format("rank {} sent {} bytes that are no worker address of UCX; run the "
                                                   "same version of reshard on all ranks",
                                                   rank, sealed.size()));
}

}  // namespace reshard
