// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/doubles/cuda/access_observer.h"

namespace reshard::testing {

/// Counts the sectors of 32 bytes that loads and stores of global memory touch, warp by warp and access by access, as
/// the device's own counters do. Lanes are together in an access when it is the same one in the code and each has made
/// it as often before.
class SectorCounter : public AccessObserver {
 public:
  void begin_block(std::uint32_t) override { flush(); }
  void barrier() override { flush(); }
  void shared(const Access&) override {}
  void global(const Access& access) override;

  struct Counts {
    std::int64_t sectors = 0;
    std::int64_t distinct = 0;  ///< each once for a block between two barriers: what a first-level cache lets through
    std::int64_t warp_accesses = 0;
  };
  const Counts& loads() { return flush(), counts_[0]; }
  const Counts& stores() { return flush(), counts_[1]; }

 private:
  void flush();

  struct Key {
    const void* site;
    std::int64_t times;  // how often before
    std::uint32_t warp_or_thread;
    bool is_store;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const;
  };
  using Sectors = std::vector<std::uint64_t>;  // few: of one access of a warp

  std::unordered_map<Key, Sectors, KeyHash> open_;        // by warp
  std::unordered_map<Key, std::int64_t, KeyHash> times_;  // by thread and site alone
  std::array<Counts, 2> counts_;
};

/// Finds threads that touch the same byte of shared memory between two barriers, at least one of which writes; and
/// reads of what no thread of the block has written.
class RaceDetector : public AccessObserver {
 public:
  void begin_block(std::uint32_t) override {
    ++block_;
    ++interval_;
  }
  void barrier() override { ++interval_; }
  void global(const Access&) override {}
  void shared(const Access& access) override;

  const std::vector<std::string>& findings() const { return findings_; }
  std::int64_t num_accesses() const { return num_accesses_; }

 private:
  static constexpr std::int32_t kNobody = -1;
  static constexpr std::int32_t kSeveral = -2;
  struct Byte {
    std::uint32_t interval = 0;  // between two barriers, of what follows
    std::int32_t writer = kNobody;
    std::int32_t reader = kNobody;
    std::uint32_t written_in_block = 0;
  };
  static constexpr std::uint64_t kPageBytes = 4096;
  using Page = std::array<Byte, kPageBytes>;
  Byte& byte_at(std::uint64_t address);
  void report(const char* what, const Access& access);

  std::unordered_map<std::uint64_t, std::unique_ptr<Page>> pages_;
  std::uint64_t last_page_number_ = 0;
  Page* last_page_ = nullptr;
  std::uint32_t block_ = 0;
  std::uint32_t interval_ = 1;
  std::vector<std::string> findings_;
  std::int64_t num_accesses_ = 0;
};

/// Watches while it lives.
class Watch {
 public:
  explicit Watch(AccessObserver* observer) { observe_accesses(observer); }
  ~Watch() { observe_accesses(nullptr); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
};

}  // namespace reshard::testing
