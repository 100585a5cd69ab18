// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/local_world.h"

#include <fmt/core.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "src/transport/memory_left.h"
#include "src/transport/rank_list.h"

namespace reshard {

void LocalMailbox::post(LocalSend* send) {
  std::lock_guard lock(mutex_);
  arrivals_.push_back(send);
  changed_.notify_one();
}

void LocalMailbox::reserve(std::size_t num_sends) {
  std::lock_guard lock(mutex_);
  for (std::vector<LocalSend*>* sends : {&arrivals_, &unexpected_, &completed_}) sends->reserve(num_sends);
}

// Under the lock that the receiver takes from it with, so that either end, and only one of them, has the send.
bool LocalMailbox::remove(LocalSend* send) {
  std::lock_guard lock(mutex_);
  return std::erase(arrivals_, send) + std::erase(unexpected_, send) > 0;
}

void LocalMailbox::complete(LocalSend* send) {
  std::lock_guard lock(mutex_);
  completed_.push_back(send);
  changed_.notify_one();
}

void LocalMailbox::poke() {
  std::lock_guard lock(mutex_);
  poked_ = true;
  changed_.notify_one();
}

LocalSend* LocalMailbox::take_unexpected(const Envelope& pattern) {
  std::lock_guard lock(mutex_);
  auto it = std::find_if(unexpected_.begin(), unexpected_.end(),
                         [&](const LocalSend* send) { return pattern.matches(send->envelope); });
  if (it == unexpected_.end()) return nullptr;
  LocalSend* send = *it;
  unexpected_.erase(it);
  return send;
}

void LocalMailbox::take_completed(std::vector<LocalSend*>* sends) {
  sends->clear();
  std::lock_guard lock(mutex_);
  sends->swap(completed_);
}

// Woken by whatever arrives; the millisecond is for what comes by other ways, such as a deadline.
void LocalMailbox::sleep() {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::milliseconds(1),
                    [this] { return poked_ || !arrivals_.empty() || !completed_.empty(); });
  poked_ = false;
}

LocalMemory::~LocalMemory() {
  for (const auto& [begin, range] : ranges_) munmap(reinterpret_cast<void*>(begin), range.size_bytes);
}

Result<void*> LocalMemory::allocate(std::int32_t rank, std::size_t size_bytes) {
  RESHARD_TRY(check_memory_left(size_bytes));
  // mmap() refuses nothing at all, and a rank without elements is no error.
  const std::size_t mapped_bytes = std::max<std::size_t>(size_bytes, 1);
  void* ptr = mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (ptr == MAP_FAILED) {
    return Status(RESHARD_ERR_OUT_OF_MEMORY,
                  fmt::format("rank {} could not map {} bytes: {}", rank, size_bytes, std::strerror(errno)));
  }
  std::lock_guard lock(mutex_);
  ranges_.insert(ptr, mapped_bytes, rank);
  return ptr;
}

Status LocalMemory::free(std::int32_t rank, void* ptr) {
  std::lock_guard lock(mutex_);
  const auto* found = ranges_.find(ptr, 0);
  if (found == nullptr || found->value != rank) {
    return invalid_argument(fmt::format("{} was not allocated by rank {} of this transport", ptr, rank));
  }
  auto range = ranges_.take(ptr);
  if (!range) return invalid_argument(fmt::format("{} lies inside an allocation; free its first byte", ptr));
  munmap(ptr, range->size_bytes);
  return {};
}

void LocalMemory::free_all(std::int32_t rank) {
  std::lock_guard lock(mutex_);
  std::vector<std::uintptr_t> owned;
  for (const auto& [begin, range] : ranges_) {
    if (range.value == rank) owned.push_back(begin);
  }
  for (std::uintptr_t begin : owned) {
    void* ptr = reinterpret_cast<void*>(begin);
    munmap(ptr, ranges_.take(ptr)->size_bytes);
  }
}

MemoryKey LocalMemory::export_range(std::int32_t rank, const void* ptr, std::size_t size_bytes) const {
  std::lock_guard lock(mutex_);
  const auto* range = ranges_.find(ptr, size_bytes);
  if (range == nullptr || range->value != rank) return {};
  MemoryKey key(sizeof(ptr) + sizeof(size_bytes));
  std::memcpy(key.data(), &ptr, sizeof(ptr));
  std::memcpy(key.data() + sizeof(ptr), &size_bytes, sizeof(size_bytes));
  return key;
}

Result<void*> LocalMemory::map(const MemoryKey& key) const {
  if (key.empty()) return nullptr;
  void* ptr = nullptr;
  std::size_t size_bytes = 0;
  if (key.size() != sizeof(ptr) + sizeof(size_bytes)) {
    return invalid_argument(fmt::format("a memory key of {} bytes is not from this transport", key.size()));
  }
  std::memcpy(&ptr, key.data(), sizeof(ptr));
  std::memcpy(&size_bytes, key.data() + sizeof(ptr), sizeof(size_bytes));
  std::lock_guard lock(mutex_);
  // The key came from another rank some time ago; its owner may have freed the memory meanwhile.
  if (ranges_.find(ptr, size_bytes) == nullptr) {
    return invalid_argument(fmt::format("the memory at {} was freed by its owner", ptr));
  }
  return ptr;
}

LocalWorld::LocalWorld(std::int32_t num_ranks)
    : num_ranks_(num_ranks), mailboxes_(static_cast<std::size_t>(num_ranks)) {}

LocalWorld::Collective& LocalWorld::collective(std::uint64_t sequence) {
  // Whoever comes first makes it; ranks may be one all-gather apart, so that two can be open at once.
  Collective& collective = collectives_[sequence];
  collective.blobs.resize(static_cast<std::size_t>(num_ranks_));
  return collective;
}

void LocalWorld::contribute(std::uint64_t sequence, std::int32_t rank, const std::vector<std::byte>& blob) {
  std::lock_guard lock(mutex_);
  collective(sequence).blobs[RankId(rank)] = blob;
  poke_all();
}

void LocalWorld::leave(std::int32_t rank) {
  std::lock_guard lock(mutex_);
  left_.push_back(rank);
  poke_all();
}

void LocalWorld::update_departed(std::vector<std::int32_t>* departed) {
  std::lock_guard lock(mutex_);
  // The caller's list is always a prefix of left_, so its length says where the news begin.
  departed->insert(departed->end(), left_.begin() + static_cast<std::ptrdiff_t>(departed->size()), left_.end());
}

void LocalWorld::adopt(std::unique_ptr<LocalSend> send) {
  std::lock_guard lock(mutex_);
  orphans_.push_back(std::move(send));
}

void LocalWorld::poke_all() {
  for (LocalMailbox& mailbox : mailboxes_) mailbox.poke();
}

Status LocalWorld::judge(const Collective& collective, const std::vector<std::int32_t>& missing,
                         const Deadline& deadline) const {
  if (!collective.failure.ok() || missing.empty()) return collective.failure;
  for (std::int32_t rank : missing) {
    if (std::find(left_.begin(), left_.end(), rank) != left_.end()) {
      return {RESHARD_ERR_PEER_FAILED, fmt::format("all-gather: rank {} has destroyed its transport", rank)};
    }
  }
  if (!deadline.expired()) return {};
  return {RESHARD_ERR_TIMEOUT,
          fmt::format("all-gather: {} did not come within {} us", list_ranks(missing), deadline.timeout_us())};
}

std::optional<LocalWorld::Gathered> LocalWorld::poll(std::uint64_t sequence, const Deadline& deadline) {
  std::lock_guard lock(mutex_);
  Collective& gathered = collective(sequence);
  std::vector<std::int32_t> missing;
  for (std::int32_t rank = 0; rank < num_ranks_; ++rank) {
    if (!gathered.blobs[RankId(rank)]) missing.push_back(rank);
  }
  // Judged by whichever rank looks first, with its own deadline, for all.
  gathered.failure = judge(gathered, missing, deadline);
  std::optional<Gathered> outcome;
  if (!gathered.failure.ok()) {
    outcome = Gathered(gathered.failure);
    poke_all();
  } else if (missing.empty()) {
    std::vector<std::vector<std::byte>> blobs;
    for (const auto& blob : gathered.blobs) blobs.push_back(*blob);
    outcome = Gathered(std::move(blobs));
  }
  if (outcome && ++gathered.num_taken == num_ranks_) collectives_.erase(sequence);
  return outcome;
}

}  // namespace reshard
