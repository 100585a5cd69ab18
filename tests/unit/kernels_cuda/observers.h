// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <tuple>
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

  using Key = std::tuple<std::uint32_t, const void*, bool, std::int64_t>;  // warp, site, is store, how often before
  std::map<Key, std::set<std::uint64_t>> open_;
  std::map<std::pair<std::uint32_t, const void*>, std::int64_t> times_;  // by thread
  std::array<Counts, 2> counts_;
};

/// Finds threads that touch the same byte of shared memory between two barriers, at least one of which writes; and
/// reads of what no thread of the block has written.
class RaceDetector : public AccessObserver {
 public:
  void begin_block(std::uint32_t) override {
    bytes_.clear();
    is_written_.clear();
  }
  void barrier() override { bytes_.clear(); }
  void global(const Access&) override {}
  void shared(const Access& access) override;

  const std::vector<std::string>& findings() const { return findings_; }
  std::int64_t num_accesses() const { return num_accesses_; }

 private:
  static constexpr std::int64_t kNobody = -1;
  static constexpr std::int64_t kSeveral = -2;
  struct Byte {
    std::int64_t writer = kNobody;
    std::int64_t reader = kNobody;
  };
  void report(const char* what, const Access& access);

  std::unordered_map<std::uint64_t, Byte> bytes_;  // of this interval
  std::set<std::uint64_t> is_written_;             // in this block
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
