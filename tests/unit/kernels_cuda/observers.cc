// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "observers.h"

namespace reshard::testing {

void SectorCounter::global(const Access& access) {
  constexpr std::uint32_t kSectorBytes = 32;
  const std::int64_t times = times_[{access.thread, access.site}]++;
  if (!access.is_active) return;
  std::set<std::uint64_t>& sectors = open_[{access.thread / 32, access.site, access.is_store, times}];
  sectors.insert(access.address / kSectorBytes);  // an aligned access lies in one
}

void SectorCounter::flush() {
  std::set<std::uint64_t> all[2];
  for (const auto& [key, sectors] : open_) {
    const bool is_store = std::get<2>(key);
    counts_[is_store].sectors += static_cast<std::int64_t>(sectors.size());
    ++counts_[is_store].warp_accesses;
    all[is_store].insert(sectors.begin(), sectors.end());
  }
  for (int i = 0; i < 2; ++i) counts_[static_cast<std::size_t>(i)].distinct += static_cast<std::int64_t>(all[i].size());
  open_.clear();
  times_.clear();
}

void RaceDetector::report(const char* what, const Access& access) {
  constexpr std::size_t kMost = 10;
  if (findings_.size() == kMost) return;
  findings_.push_back(std::string(what) + ": thread " + std::to_string(access.thread) + " at byte " +
                      std::to_string(access.address % 65536));
}

void RaceDetector::shared(const Access& access) {
  ++num_accesses_;
  const auto thread = static_cast<std::int64_t>(access.thread);
  for (std::uint64_t at = access.address; at < access.address + access.num_bytes; ++at) {
    Byte& byte = bytes_[at];
    const bool written_by_other = byte.writer != kNobody && byte.writer != thread;
    if (access.is_store) {
      const bool read_by_other = byte.reader != kNobody && byte.reader != thread;
      if (written_by_other || read_by_other) report("written while another thread uses it", access);
      byte.writer = thread;
      is_written_.insert(at);
    } else {
      if (written_by_other) report("read while another thread writes it", access);
      if (is_written_.count(at) == 0) report("read before it was written", access);
      byte.reader = byte.reader == kNobody || byte.reader == thread ? thread : kSeveral;
    }
  }
}

}  // namespace reshard::testing
