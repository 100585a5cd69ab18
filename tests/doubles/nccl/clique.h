// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What the ranks of a communicator share, threads or processes: who has come, what has befallen each, and a small ring
// of bytes for each channel from one rank to another. In shared memory that the unique id names.
#pragma once

#include <nccl.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace nccl_double {

constexpr int kMaxRanks = 64;
constexpr int kMaxChannels = 64;
constexpr std::size_t kRingBytes = 8192;

/// Bytes from one rank to another over one channel. One thread writes at a time, and one reads.
struct Ring {
  std::atomic<std::uint64_t> num_written;
  std::atomic<std::uint64_t> num_read;
  std::atomic<std::int32_t> is_dead;  // a message was lost: nothing comes through any more
  std::array<std::byte, kRingBytes> bytes;

  /// Copies as many as fit, or as are there; how many.
  std::size_t write(const std::byte* from, std::size_t size_bytes);
  std::size_t read(std::byte* to, std::size_t size_bytes);
  std::size_t num_there() const { return num_written.load() - num_read.load(); }
};

struct RankSlot {
  std::atomic<std::int32_t> has_joined;
  std::atomic<std::int32_t> process;
  std::atomic<std::int32_t> device;
  std::atomic<std::int32_t> has_finalized;
  std::atomic<std::int32_t> has_gone;     // destroyed or aborted
  std::atomic<std::int32_t> async_error;  // from outside: a peer that broke, an order of a test
};

struct Shared {
  std::uint64_t magic;
  std::atomic<std::int32_t> num_ranks;  // 0: nobody has come
  std::atomic<std::int32_t> num_joined;
  std::atomic<std::int32_t> num_finalized;
  std::atomic<std::int32_t> is_deadlocked;
  std::atomic<std::int64_t> last_step_ns;  // of the clock of this machine: when something was last done
  std::array<RankSlot, kMaxRanks> ranks;
  // Connections, [from * kMaxRanks + to]: which of the two ends wants it.
  std::array<std::atomic<std::uint8_t>, kMaxRanks * kMaxRanks> connections;
};

class Clique {
 public:
  static ncclResult_t make_id(ncclUniqueId* out);

  /// Null: the id is none of ours, or whoever made it has gone.
  static std::shared_ptr<Clique> open(const ncclUniqueId& id, int num_ranks);
  ~Clique();
  Clique(const Clique&) = delete;
  Clique& operator=(const Clique&) = delete;

  int num_ranks() const { return num_ranks_; }
  /// The same for all ranks of it, and of no other.
  std::uint64_t identity() const { return identity_; }
  Shared& shared() const { return *shared_; }
  RankSlot& rank(int index) const { return shared_->ranks.at(static_cast<std::size_t>(index)); }
  Ring& ring(int from, int to, int channel) const;
  /// A connection is there when both ends have asked for it.
  void ask_for_connection(int from, int to, bool is_sender) const;
  bool is_connected(int from, int to) const;
  bool is_complete() const { return shared_->num_joined.load() == num_ranks_; }

  /// A rank whose process has ended without a word; -1: none.
  int dead_rank() const;

  /// Something was done: the watch for deadlocks begins anew.
  void note_step() const;
  std::int64_t ns_since_step() const;

 private:
  Clique() = default;
  Shared* shared_ = nullptr;
  int num_ranks_ = 0;
  std::size_t mapped_bytes_ = 0;
  std::uint64_t number_ = 0;  // of the id, if this process made it
  std::uint64_t identity_ = 0;
};

}  // namespace nccl_double
