// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// usage: map_peers     memory of one process, read and written by kernels of another, on the first device
//
// For a machine with a GPU; on the double of the runtime it runs with all other tests. Every way in which memory can
// come to another process of the host is tried: CUDA IPC, also from the middle of an allocation; descriptors, of a
// range that lies over two physical pieces as those of torch's expandable segments do; and memory that is made for the
// whole NVLink domain. Prints a JSON object for each, with the kind of its key; the exit status is 1 when one of them
// failed.
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <optional>
#include <vector>

#include <cuda.h>

#include "src/device/device.h"
#include "src/device/memory.h"
#include "src/device/peer_memory.h"
#include "tests/gpu/reference_kernel.h"
#include "tests/unit/device/segments.h"
#include "tests/unit/device/two_processes.h"

namespace reshard::testing {
namespace {

constexpr std::size_t kNumBytes = 100'000;

std::vector<unsigned char> pattern(std::size_t salt) {
  std::vector<unsigned char> bytes(kNumBytes);
  for (std::size_t i = 0; i < kNumBytes; ++i) bytes[i] = static_cast<unsigned char>(7 * i + i / 251 + salt);
  return bytes;
}

/// By a kernel of the first device, whose copy is complete when it returns.
void copy_by_kernel(const void* from, void* to) {
  CopyOp op;
  op.src = from;
  op.dst = to;
  op.num_dims = 1;
  op.shape[0] = kNumBytes;
  op.src_strides_bytes[0] = op.dst_strides_bytes[0] = 1;
  const Result<DeviceGuard> guard = DeviceGuard::enter(0);
  const Result<Stream> stream = Stream::create(0);
  RESHARD_REQUIRE(guard.ok() && stream.ok());
  RESHARD_REQUIRE(launch_reference_copy(op, stream->handle()).ok());
  RESHARD_REQUIRE(stream->synchronize().ok());
}

void write(void* device_memory, const std::vector<unsigned char>& bytes) {
  const Result<Stream> stream = Stream::create(0);
  RESHARD_REQUIRE(stream.ok() && copy_and_wait(device_memory, bytes.data(), bytes.size(), *stream).ok());
}

std::vector<unsigned char> read(const void* device_memory) {
  std::vector<unsigned char> bytes(kNumBytes);
  const Result<Stream> stream = Stream::create(0);
  RESHARD_REQUIRE(stream.ok() && copy_and_wait(bytes.data(), device_memory, kNumBytes, *stream).ok());
  return bytes;
}

/// Offers kNumBytes at `ptr` and sees what the partner has written there.
void offer(const Partner& partner, void* ptr) {
  Result<std::unique_ptr<DevicePeerMemory>> peers = DevicePeerMemory::create(0);
  RESHARD_REQUIRE(peers.ok());
  write(ptr, pattern(1));
  const Result<std::vector<std::byte>> key = (*peers)->export_memory(ptr, kNumBytes);
  RESHARD_REQUIRE(key.ok());
  partner.send(*key);
  RESHARD_REQUIRE(partner.receive_text() == "written");
  RESHARD_REQUIRE(read(ptr) == pattern(2));
  (*peers)->withdraw(*key);
}

/// Maps what is offered, reads all of it by a kernel, and writes other values there by another.
void use(const Partner& partner, const char* what) {
  Result<std::unique_ptr<DevicePeerMemory>> peers = DevicePeerMemory::create(0);
  const Result<DeviceMemory> mine = DeviceMemory::allocate(0, kNumBytes);
  RESHARD_REQUIRE(peers.ok() && mine.ok());
  const std::vector<std::byte> key = partner.receive();
  std::printf("{\"memory\": \"%s\", \"key\": \"%s\"}\n", what, peer_key_kind_name(peer_key_kind(key)));
  std::fflush(stdout);
  const Result<void*> mapped = (*peers)->map(key);
  RESHARD_REQUIRE(mapped.ok() && *mapped != nullptr);
  copy_by_kernel(*mapped, mine->data());
  RESHARD_REQUIRE(read(mine->data()) == pattern(1));
  write(mine->data(), pattern(2));
  copy_by_kernel(mine->data(), *mapped);
  RESHARD_REQUIRE((*peers)->unmap(key, *mapped).ok());
  partner.send_text("written");
}

bool try_memory(const char* what, const std::function<void(const Partner&)>& exporter) {
  const bool is_right = run_two(exporter, [what](const Partner& partner) { use(partner, what); });
  if (!is_right) std::printf("%s: FAILED\n", what);
  return is_right;
}

void offer_allocation(const Partner& partner, std::size_t offset, Export reach) {
  const Result<DeviceMemory> memory = DeviceMemory::allocate(0, offset + kNumBytes, reach);
  RESHARD_REQUIRE(memory.ok());
  offer(partner, static_cast<std::byte*>(memory->data()) + offset);
}

void offer_segment(const Partner& partner) {
  const Result<DeviceGuard> guard = DeviceGuard::enter(0);
  RESHARD_REQUIRE(guard.ok());
  const ExpandableSegment segment(0, 2, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  offer(partner, segment.data() + ExpandableSegment::kPieceBytes - kNumBytes / 2);
}

/// In a process of its own: this one must not have used CUDA when it forks.
bool has_device() {
  return run_two(
      [](const Partner&) {
        const Status status = check_device(0);
        if (!status.ok()) std::fprintf(stderr, "map_peers: %s\n", status.message().c_str());
        RESHARD_REQUIRE(status.ok());
      },
      [](const Partner&) {});
}

int main_without_cuda() {
  if (!has_device()) return 2;
  bool is_right = try_memory("cudaMalloc", [](const Partner& p) { offer_allocation(p, 0, Export::kHost); });
  is_right &= try_memory("cudaMalloc, from an odd offset",
                         [](const Partner& p) { offer_allocation(p, 12'345, Export::kHost); });
  is_right &= try_memory("pieces in one range, as expandable segments", offer_segment);
  is_right &= try_memory("for the NVLink domain", [](const Partner& p) { offer_allocation(p, 4096, Export::kDomain); });
  return is_right ? 0 : 1;
}

}  // namespace
}  // namespace reshard::testing

int main() {
  return reshard::testing::main_without_cuda();
}
