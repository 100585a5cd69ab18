// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "reshard/reshard.h"

namespace reshard::perf {

/// All buffers of one rank on one side, in one allocation, with a guard zone before and after each.
class Arena {
 public:
  /// The byte that guard zones and destinations hold until something writes there.
  static constexpr std::byte kPoison{0xA5};

  /// `comm` must outlive the arena. use_heap: ordinary memory instead of reshard_alloc.
  Arena(reshard_comm_t comm, reshard_layout_t layout, std::int32_t rank, bool use_heap);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Start of a buffer of the layout. Throws Error for an id that this rank has not got.
  std::byte* buffer(std::int64_t id) const { return find(id).ptr; }
  std::size_t buffer_size_bytes(std::int64_t id) const { return find(id).size_bytes; }

  /// What reshard_binding_desc_t asks for.
  std::vector<reshard_buffer_t> binding_buffers() const { return binding_buffers_; }

  /// Fills everything with kPoison, guard zones and buffers.
  void poison();

  /// Names of the buffers whose guard zone before or after them is not as poison() left it.
  std::vector<std::string> damaged_guards() const;

 private:
  struct Buffer {
    std::int64_t id = 0;
    std::string name;
    std::byte* ptr = nullptr;
    std::size_t size_bytes = 0;
  };
  const Buffer& find(std::int64_t id) const;

  reshard_comm_t comm_;
  bool use_heap_;
  std::size_t total_bytes_ = 0;
  std::byte* base_ = nullptr;
  std::vector<Buffer> buffers_;  // ascending in id and in address
  std::vector<reshard_buffer_t> binding_buffers_;
};

}  // namespace reshard::perf
