// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "observers.h"

#include <algorithm>
#include <iterator>
#include <unordered_set>

namespace reshard::testing {

std::size_t SectorCounter::KeyHash::operator()(const Key& key) const {
  std::uint64_t mixed = reinterpret_cast<std::uintptr_t>(key.site);
  for (const std::uint64_t more :
       {static_cast<std::uint64_t>(key.times), std::uint64_t{key.warp_or_thread}, std::uint64_t{key.is_store}}) {
    mixed = (mixed ^ more) * 0x9E3779B97F4A7C15U;
    mixed ^= mixed >> 29;
  }
  return mixed;
}

void SectorCounter::global(const Access& access) {
  constexpr std::uint32_t kSectorBytes = 32;
  constexpr std::uint32_t kWarpThreads = 32;
  const std::int64_t times = times_[{access.site, 0, access.thread, false}]++;
  if (!access.is_active) return;
  Sectors& sectors = open_[{access.site, times, access.thread / kWarpThreads, access.is_store}];
  const std::uint64_t sector = access.address / kSectorBytes;  // an aligned access lies in one
  // Neighbours come one after another.
  if (std::find(sectors.rbegin(), sectors.rend(), sector) == sectors.rend()) sectors.push_back(sector);
}

void SectorCounter::flush() {
  std::unordered_set<std::uint64_t> all[2];
  for (const auto& [key, sectors] : open_) {
    Counts& counts = counts_[key.is_store ? 1 : 0];
    counts.sectors += std::ssize(sectors);
    ++counts.warp_accesses;
    all[key.is_store ? 1 : 0].insert(sectors.begin(), sectors.end());
  }
  for (int i = 0; i < 2; ++i) counts_[static_cast<std::size_t>(i)].distinct += std::ssize(all[i]);
  open_.clear();
  times_.clear();
}

void RaceDetector::report(const char* what, const Access& access) {
  constexpr std::size_t kMost = 10;
  if (findings_.size() == kMost) return;
  findings_.push_back(std::string(what) + ": thread " + std::to_string(access.thread) + " at byte " +
                      std::to_string(access.address % 65536));
}

/// As of this interval.
RaceDetector::Byte& RaceDetector::byte_at(std::uint64_t address) {
  const std::uint64_t number = address / kPageBytes;
  if (last_page_ == nullptr || number != last_page_number_) {
    std::unique_ptr<Page>& page = pages_[number];
    if (page == nullptr) page = std::make_unique<Page>();
    last_page_ = page.get();
    last_page_number_ = number;
  }
  Byte& byte = (*last_page_)[address % kPageBytes];
  if (byte.interval != interval_) byte = {interval_, kNobody, kNobody, byte.written_in_block};
  return byte;
}

void RaceDetector::shared(const Access& access) {
  ++num_accesses_;
  const auto thread = static_cast<std::int32_t>(access.thread);
  for (std::uint64_t at = access.address; at < access.address + access.num_bytes; ++at) {
    Byte& byte = byte_at(at);
    const bool written_by_other = byte.writer != kNobody && byte.writer != thread;
    if (access.is_store) {
      const bool read_by_other = byte.reader != kNobody && byte.reader != thread;
      if (written_by_other || read_by_other) report("written while another thread uses it", access);
      byte.writer = thread;
      byte.written_in_block = block_;
    } else {
      if (written_by_other) report("read while another thread writes it", access);
      if (byte.written_in_block != block_) report("read before it was written", access);
      byte.reader = byte.reader == kNobody || byte.reader == thread ? thread : kSeveral;
    }
  }
}

}  // namespace reshard::testing
