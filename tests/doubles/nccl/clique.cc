// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/nccl/clique.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <map>
#include <string>

#include <fmt/format.h>

#include "tests/doubles/nccl/world.h"

namespace nccl_double {
namespace {

constexpr std::uint64_t kMagic = 0x6c63636e656c6275;
constexpr std::size_t kSharedBytes = (sizeof(Shared) + 4095) / 4096 * 4096;

/// What a unique id holds here.
struct Id {
  std::uint64_t magic;
  std::int64_t process;
  std::int64_t descriptor;
  std::uint64_t number;
};
static_assert(sizeof(Id) <= sizeof(ncclUniqueId));

/// Descriptors of ids that this process made, by number; open until all ranks have come and the last one here has gone.
std::map<std::uint64_t, int>& descriptors() {
  static auto& list = *new std::map<std::uint64_t, int>;
  return list;
}

std::int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

/// Neither gone nor killed and waiting for its parent to see it.
bool is_alive(std::int32_t process) {
  std::string text;
  std::getline(std::ifstream(fmt::format("/proc/{}/stat", process)), text);
  const std::size_t end_of_name = text.rfind(')');
  return end_of_name != std::string::npos && text.compare(end_of_name, 3, ") Z") != 0;
}

/// One more ring than channels: for collectives.
std::size_t size_for(int num_ranks) {
  const auto pairs = static_cast<std::size_t>(num_ranks) * static_cast<std::size_t>(num_ranks);
  return kSharedBytes + pairs * (kMaxChannels + 1) * sizeof(Ring);
}

}  // namespace

std::size_t Ring::write(const std::byte* from, std::size_t size_bytes) {
  const std::uint64_t at = num_written.load();
  const std::size_t moved = std::min(size_bytes, kRingBytes - num_there());
  const std::size_t first = std::min<std::size_t>(moved, kRingBytes - at % kRingBytes);
  std::memcpy(bytes.data() + at % kRingBytes, from, first);
  std::memcpy(bytes.data(), from + first, moved - first);
  num_written.store(at + moved);
  return moved;
}

std::size_t Ring::read(std::byte* to, std::size_t size_bytes) {
  const std::uint64_t at = num_read.load();
  const std::size_t moved = std::min(size_bytes, num_there());
  const std::size_t first = std::min<std::size_t>(moved, kRingBytes - at % kRingBytes);
  std::memcpy(to, bytes.data() + at % kRingBytes, first);
  std::memcpy(to + first, bytes.data(), moved - first);
  num_read.store(at + moved);
  return moved;
}

ncclResult_t Clique::make_id(ncclUniqueId* out) {
  const int descriptor = memfd_create("nccl_double", MFD_CLOEXEC);
  if (descriptor < 0 || ftruncate(descriptor, static_cast<off_t>(kSharedBytes)) != 0) {
    return fail(ncclSystemError, fmt::format("no shared memory: {}", std::strerror(errno)));
  }
  static std::uint64_t next_number = 1;
  const Id id{kMagic, getpid(), descriptor, next_number++};
  descriptors()[id.number] = descriptor;
  *out = {};
  std::memcpy(out, &id, sizeof id);
  const std::uint64_t magic = kMagic ^ id.number;
  return pwrite(descriptor, &magic, sizeof magic, 0) == sizeof magic ? ncclSuccess : ncclSystemError;
}

std::shared_ptr<Clique> Clique::open(const ncclUniqueId& given, int num_ranks) {
  Id id{};
  std::memcpy(&id, &given, sizeof id);
  if (id.magic != kMagic) return nullptr;
  const int descriptor = ::open(fmt::format("/proc/{}/fd/{}", id.process, id.descriptor).c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return nullptr;
  const std::size_t size_bytes = size_for(num_ranks);
  // Sparse: what no rank touches takes no memory. All ranks make the same size of it.
  void* mapped = MAP_FAILED;
  struct stat facts {};
  const bool is_grown = fstat(descriptor, &facts) == 0 && facts.st_size >= static_cast<off_t>(size_bytes);
  if (is_grown || ftruncate(descriptor, static_cast<off_t>(size_bytes)) == 0) {
    mapped = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, descriptor, 0);
  }
  close(descriptor);
  if (mapped == MAP_FAILED) return nullptr;
  std::shared_ptr<Clique> clique(new Clique);
  clique->shared_ = static_cast<Shared*>(mapped);
  clique->mapped_bytes_ = size_bytes;
  clique->num_ranks_ = num_ranks;
  clique->identity_ = static_cast<std::uint64_t>(id.process) << 32 | id.number;
  clique->number_ = id.process == getpid() ? id.number : 0;
  if (clique->shared_->magic != (kMagic ^ id.number)) return nullptr;  // the number is another file's by now
  return clique;
}

Clique::~Clique() {
  const auto own = descriptors().find(number_);
  if (own != descriptors().end() && is_complete()) {
    close(own->second);
    descriptors().erase(own);
  }
  munmap(shared_, mapped_bytes_);
}

Ring& Clique::ring(int from, int to, int channel) const {
  const std::size_t pair =
      static_cast<std::size_t>(from) * static_cast<std::size_t>(num_ranks_) + static_cast<std::size_t>(to);
  auto* const first = reinterpret_cast<Ring*>(reinterpret_cast<std::byte*>(shared_) + kSharedBytes);
  return first[pair * (kMaxChannels + 1) + static_cast<std::size_t>(channel)];
}

void Clique::ask_for_connection(int from, int to, bool is_sender) const {
  const auto index = static_cast<std::size_t>(from) * kMaxRanks + static_cast<std::size_t>(to);
  shared_->connections.at(index).fetch_or(is_sender ? 1 : 2);
}

bool Clique::is_connected(int from, int to) const {
  const auto index = static_cast<std::size_t>(from) * kMaxRanks + static_cast<std::size_t>(to);
  return from == to || shared_->connections.at(index).load() == 3;
}

int Clique::dead_rank() const {
  for (int index = 0; index < num_ranks_; ++index) {
    const RankSlot& slot = rank(index);
    const std::int32_t process = slot.process.load();
    if (slot.has_gone.load() == 0 && process != 0 && process != getpid() && !is_alive(process)) return index;
  }
  return -1;
}

void Clique::note_step() const {
  shared_->last_step_ns.store(now_ns());
}

std::int64_t Clique::ns_since_step() const {
  return now_ns() - shared_->last_step_ns.load();
}

}  // namespace nccl_double
