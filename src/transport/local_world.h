// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What the threads of a local group share: a mailbox for each rank, the memory that they map, the all-gathers. Locks
// are taken in one order, the world's before a mailbox's, and no lock is held while bytes are copied.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "src/base/indexed_vector.h"
#include "src/transport/range_map.h"
#include "src/transport/transport.h"

namespace reshard {

/// What a send and a receive are matched by.
struct Envelope {
  std::int32_t source = 0;
  std::uint64_t tag = 0;
  std::size_t size_bytes = 0;
  bool matches(const Envelope& other) const { return source == other.source && tag == other.tag; }
};

/// A posted send. Lies in the receiver's mailbox until that takes it, then in the sender's among the completed ones.
///
/// Owned by the sender's transport, or by the world once that has gone; the mailboxes hold pointers only. Whichever
/// list it lies in says whose it is: what the receiver has taken out it may read until it calls complete().
struct LocalSend {
  /// Messages up to this size are copied when they are sent. They need nothing of the sender any more, and so outlive a
  /// cancel and even its transport, as small messages of other transports do.
  static constexpr std::size_t kMostKept = 64;

  Envelope envelope;
  std::int32_t destination = 0;
  const void* data = nullptr;
  Request* request = nullptr;  ///< touched by the sender's thread only; null: nobody waits for it
  bool is_posted = false;      ///< by the sender's thread: not known to be taken yet
  std::array<std::byte, kMostKept> kept = {};
  bool is_kept() const { return envelope.size_bytes <= kMostKept; }
};

/// Where the other threads leave things for one rank.
class LocalMailbox {
 public:
  void reserve(std::size_t num_sends);  ///< room for this many sends in each of its lists
  void post(LocalSend* send);           ///< by the sender
  bool remove(LocalSend* send);         ///< by the sender: takes it back; false when the receiver has taken it already
  void complete(LocalSend* send);       ///< by the receiver, to the sender's mailbox
  void poke();                          ///< ends a sleep()

  /// By the owner. Offers each new send, in order; those that `take` returns false for stay as unexpected ones.
  template <typename Take>
  void match_arrivals(const Take& take) {
    std::lock_guard lock(mutex_);
    for (LocalSend* send : arrivals_) {
      if (!take(send)) unexpected_.push_back(send);
    }
    arrivals_.clear();
  }

  LocalSend* take_unexpected(const Envelope& pattern);  ///< by the owner: the earliest that matches, or null
  void take_completed(std::vector<LocalSend*>* sends);  ///< by the owner: replaces *sends
  void sleep();                                         ///< by the owner: until something arrives, at most 1 ms

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<LocalSend*> arrivals_;    // posted since the last progress of the owner
  std::vector<LocalSend*> unexpected_;  // no receive was posted for them yet
  std::vector<LocalSend*> completed_;   // sends of the owner
  // Something outside of the mailbox has changed, an all-gather for instance. Kept until the next sleep(), so that a
  // poke between the owner's look and its sleep is not lost.
  bool poked_ = false;
};

/// Page-aligned, zeroed memory that every rank of the process can read. The key of a range is its address and size.
class LocalMemory {
 public:
  ~LocalMemory();
  Result<void*> allocate(std::int32_t rank, std::size_t size_bytes);
  Status free(std::int32_t rank, void* ptr);
  void free_all(std::int32_t rank);
  MemoryKey export_range(std::int32_t rank, const void* ptr, std::size_t size_bytes) const;
  Result<void*> map(const MemoryKey& key) const;

 private:
  mutable std::mutex mutex_;
  RangeMap<std::int32_t> ranges_;  // value: the owner
};

/// All that the ranks of one group share.
class LocalWorld {
 public:
  explicit LocalWorld(std::int32_t num_ranks);

  std::int32_t num_ranks() const { return num_ranks_; }
  LocalMailbox& mailbox(std::int32_t rank) { return mailboxes_[RankId(rank)]; }
  LocalMemory& memory() { return memory_; }

  /// All-gathers are counted on each rank; one that fails for a rank fails for all, whenever they come to it.
  void contribute(std::uint64_t sequence, std::int32_t rank, const std::vector<std::byte>& blob);
  using Gathered = Result<std::vector<std::vector<std::byte>>>;
  // A rank that comes after the failure finds it recorded, whatever has happened since: all ranks get the same outcome,
  // or some would go on where others turn back.
  std::optional<Gathered> poll(std::uint64_t sequence, const Deadline& deadline);  ///< empty: not yet
  void leave(std::int32_t rank);
  /// Appends those that have left since the list was brought up to date last.
  void update_departed(std::vector<std::int32_t>* departed);

  /// Keeps a message whose sender leaves before it was taken.
  void adopt(std::unique_ptr<LocalSend> send);

 private:
  // Erased when all ranks have taken the outcome. One of which a rank has left stays until the group goes.
  struct Collective {
    IndexedVector<RankId, std::optional<std::vector<std::byte>>> blobs;
    std::int32_t num_taken = 0;
    Status failure;
  };

  Status judge(const Collective& collective, const std::vector<std::int32_t>& missing, const Deadline& deadline) const;
  Collective& collective(std::uint64_t sequence);
  void poke_all();

  const std::int32_t num_ranks_;
  std::vector<std::unique_ptr<LocalSend>> orphans_;  // destroyed after the mailboxes that they lie in
  IndexedVector<RankId, LocalMailbox> mailboxes_;
  LocalMemory memory_;
  std::mutex mutex_;
  std::map<std::uint64_t, Collective> collectives_;
  std::vector<std::int32_t> left_;  // in this order
};

}  // namespace reshard
