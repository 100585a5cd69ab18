// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a key of device memory holds, and its bytes. Private to this room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "src/device/peer_memory.h"

namespace reshard {

/// One allocation, or one physical piece of memory that was made page by page.
struct PeerPiece {
  std::vector<std::byte> handle;  // CUDA IPC: cudaIpcMemHandle_t; fabric: CUmemFabricHandle
  std::int64_t descriptor = -1;   // descriptors: the number that the server offers it under
  std::int64_t size_bytes = 0;
};

struct PeerKey {
  PeerKeyKind kind = PeerKeyKind::kNone;
  std::string host;          // as of this_host()
  std::string process;       // as of this_process()
  std::int64_t address = 0;  // in that process
  std::int64_t size_bytes = 0;
  std::int64_t offset = 0;        // of the first byte from the begin of the first piece
  std::int64_t device = -1;       // in that process
  std::string server;             // descriptors: who offers them
  std::vector<PeerPiece> pieces;  // one behind the other

  std::vector<std::byte> bytes() const;

  /// What has to be opened, without the part of it that is meant: equal for two ranges of one allocation.
  std::vector<std::byte> handles() const;

  /// Nothing for bytes that are no key.
  static std::optional<PeerKey> parse(const std::vector<std::byte>& bytes);
};

/// Equal for two processes exactly when one kernel runs them; the name spaces of containers make no difference.
const std::string& this_host();

/// Different for any two processes.
const std::string& this_process();

}  // namespace reshard
