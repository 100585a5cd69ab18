// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/device/peer_export.h"

#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "src/device/cuda_call.h"
#include "src/device/driver.h"
#include "src/device/page_memory.h"

namespace reshard {
namespace {

// A process may have some thousand descriptors open, and torch makes a piece of every 20 MiB: enough for 20 GiB.
constexpr std::size_t kMaxPieces = 1024;

struct Range {
  CUdeviceptr begin;
  std::size_t size_bytes;
};

std::vector<std::byte> bytes_of(const void* data, std::size_t size_bytes) {
  const auto* first = static_cast<const std::byte*>(data);
  return {first, first + size_bytes};
}

/// Nothing but a lost context is an error here: everything else means that there is no such way.
template <typename Code>
Status unless_lost(const char* call, Code code, bool* works) {
  *works = static_cast<int>(code) == 0;
  Status status;
  if constexpr (std::is_same_v<Code, cudaError_t>) {
    status = cuda_status(call, code);
  } else {
    status = driver_status(call, code);
  }
  return is_lost(code) ? std::move(status) : Status();
}

/// The allocation, or the mapped piece, that the address lies in.
Result<Range> range_around(const Driver& driver, CUdeviceptr address, bool* works) {
  Range range{};
  RESHARD_TRY(unless_lost("cuMemGetAddressRange", driver.cuMemGetAddressRange(&range.begin, &range.size_bytes, address),
                          works));
  return range;
}

Status describe_ipc(const Driver& driver, CUdeviceptr first, std::size_t size_bytes, PeerKey* key) {
  bool works = false;
  RESHARD_TRY(const Range range, range_around(driver, first, &works));
  if (!works || first + size_bytes > range.begin + range.size_bytes) {
    key->kind = PeerKeyKind::kNone;  // ranges over two allocations exist by accident only
    return {};
  }
  cudaIpcMemHandle_t handle{};
  RESHARD_TRY(
      unless_lost("cudaIpcGetMemHandle", cudaIpcGetMemHandle(&handle, reinterpret_cast<void*>(range.begin)), &works));
  if (!works) return {};
  key->kind = PeerKeyKind::kIpc;
  key->offset = static_cast<std::int64_t>(first - range.begin);
  key->pieces.push_back({bytes_of(&handle, sizeof handle), -1, static_cast<std::int64_t>(range.size_bytes)});
  return {};
}

/// The pieces that the range touches; none when it is not wholly of such pieces, or of too many.
Result<std::vector<PagePiece>> pieces_of(const Driver& driver, CUdeviceptr first, std::size_t size_bytes,
                                         std::int64_t* offset) {
  std::vector<PagePiece> pieces;
  CUdeviceptr next = first;
  while (next < first + size_bytes) {
    bool works = false;
    RESHARD_TRY(const Range range, range_around(driver, next, &works));
    if (!works || pieces.size() == kMaxPieces) return std::vector<PagePiece>();
    CUmemGenericAllocationHandle handle = 0;
    RESHARD_TRY(unless_lost("cuMemRetainAllocationHandle",
                            driver.cuMemRetainAllocationHandle(&handle, reinterpret_cast<void*>(range.begin)), &works));
    if (!works) return std::vector<PagePiece>();
    if (pieces.empty()) *offset = static_cast<std::int64_t>(first - range.begin);
    pieces.push_back({PageHandle(handle), range.size_bytes});
    next = range.begin + range.size_bytes;
  }
  return pieces;
}

Status describe_fabric(const Driver& driver, const std::vector<PagePiece>& pieces, PeerKey* key) {
  std::vector<PeerPiece> described;
  for (const PagePiece& piece : pieces) {
    CUmemFabricHandle handle{};
    bool works = false;
    RESHARD_TRY(unless_lost(
        "cuMemExportToShareableHandle",
        driver.cuMemExportToShareableHandle(&handle, piece.handle.value(), CU_MEM_HANDLE_TYPE_FABRIC, 0), &works));
    if (!works) return {};
    described.push_back({bytes_of(&handle, sizeof handle), -1, static_cast<std::int64_t>(piece.size_bytes)});
  }
  key->kind = PeerKeyKind::kFabric;
  key->pieces = std::move(described);
  return {};
}

/// All or none: what was offered before one that cannot be is taken back.
Status describe_descriptors(std::vector<PagePiece> pieces, DescriptorOffers* offers, PeerKey* key) {
  std::vector<PeerPiece> described;
  for (PagePiece& piece : pieces) {
    const Result<std::int64_t> number = offers->offer(std::move(piece.handle));
    if (!number.ok() || *number < 0) {
      for (const PeerPiece& before : described) offers->withdraw(before.descriptor);
      return number.status();
    }
    described.push_back({{}, *number, static_cast<std::int64_t>(piece.size_bytes)});
  }
  key->kind = PeerKeyKind::kDescriptors;
  key->server = offers->server_name();
  key->pieces = std::move(described);
  return {};
}

}  // namespace

Status describe_export(const void* ptr, std::size_t size_bytes, std::unique_ptr<DescriptorOffers>* offers,
                       PeerKey* key) {
  RESHARD_TRY(const Driver* driver, Driver::get());
  const auto first = reinterpret_cast<CUdeviceptr>(ptr);
  unsigned int is_ipc_capable = 0;
  std::uint64_t handle_types = 0;
  std::array<CUpointer_attribute, 2> asked{CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE,
                                           CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES};
  std::array<void*, 2> answers{&is_ipc_capable, &handle_types};
  RESHARD_TRY(driver_status("cuPointerGetAttributes",
                            driver->cuPointerGetAttributes(asked.size(), asked.data(), answers.data(), first)));
  key->kind = PeerKeyKind::kProcess;
  if (is_ipc_capable != 0) return describe_ipc(*driver, first, size_bytes, key);
  const bool has_fabric = (handle_types & CU_MEM_HANDLE_TYPE_FABRIC) != 0;
  const bool has_descriptors = (handle_types & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) != 0;
  if (!has_fabric && !has_descriptors) return {};
  RESHARD_TRY(std::vector<PagePiece> pieces, pieces_of(*driver, first, size_bytes, &key->offset));
  if (pieces.empty()) return {};
  if (has_fabric) RESHARD_TRY(describe_fabric(*driver, pieces, key));
  if (key->kind == PeerKeyKind::kFabric || !has_descriptors) return {};
  if (*offers == nullptr) {
    RESHARD_TRY(*offers, DescriptorOffers::start());
  }
  return describe_descriptors(std::move(pieces), offers->get(), key);
}

}  // namespace reshard
