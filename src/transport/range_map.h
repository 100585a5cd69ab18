// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <utility>

namespace reshard {

/// Disjoint ranges of addresses, each with a value: the allocations that a transport has handed out.
template <typename T>
class RangeMap {
 public:
  struct Range {
    std::size_t size_bytes;
    T value;
  };

  void insert(const void* begin, std::size_t size_bytes, T value) {
    ranges_.emplace(address(begin), Range{size_bytes, std::move(value)});
  }

  /// The range that [ptr, ptr + size_bytes) lies in, or null.
  ///
  /// A range of no bytes lies also at the end of an allocation, where an empty window may begin.
  const Range* find(const void* ptr, std::size_t size_bytes) const {
    auto after = ranges_.upper_bound(address(ptr));
    if (after == ranges_.begin()) return nullptr;
    const auto& [begin, range] = *std::prev(after);
    const std::size_t offset = address(ptr) - begin;
    // Subtracts where an addition could overflow: sizes come from other ranks.
    return offset <= range.size_bytes && size_bytes <= range.size_bytes - offset ? &range : nullptr;
  }

  /// Removes and returns the range that begins exactly at ptr.
  std::optional<Range> take(const void* ptr) {
    auto it = ranges_.find(address(ptr));
    if (it == ranges_.end()) return std::nullopt;
    std::optional<Range> range = std::move(it->second);
    ranges_.erase(it);
    return range;
  }

  auto begin() const { return ranges_.begin(); }
  auto end() const { return ranges_.end(); }

 private:
  static std::uintptr_t address(const void* ptr) { return reinterpret_cast<std::uintptr_t>(ptr); }
  std::map<std::uintptr_t, Range> ranges_;
};

}  // namespace reshard
