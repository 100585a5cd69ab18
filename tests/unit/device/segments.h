// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Memory as torch's expandable segments are: one range of addresses, into which physical pieces are mapped one by one.
#pragma once

#include <cstddef>

namespace reshard {

class ExpandableSegment {
 public:
  /// Pieces of 2 MiB, each exportable as `handle_types` (of CUmemAllocationHandleType) says.
  ExpandableSegment(int device, std::size_t num_pieces, unsigned int handle_types);
  ~ExpandableSegment();
  ExpandableSegment(const ExpandableSegment&) = delete;
  ExpandableSegment& operator=(const ExpandableSegment&) = delete;

  static constexpr std::size_t kPieceBytes = 2 << 20;
  std::byte* data() const { return data_; }
  std::size_t size_bytes() const { return size_bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_bytes_;
};

}  // namespace reshard
