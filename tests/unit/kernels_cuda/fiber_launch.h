// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#include "kernels/tile_table.h"
#include "tests/doubles/cuda/device_kernels.h"

namespace reshard::testing {

/// Memory as a device's allocator gives it: aligned, and filled so that what was not written shows.
class AlignedBytes {
 public:
  static constexpr std::align_val_t kAlignment{256};
  static constexpr std::byte kPoison{0xa5};

  explicit AlignedBytes(std::int64_t size, std::byte value = kPoison)
      : data_(static_cast<std::byte*>(::operator new(static_cast<std::size_t>(size), kAlignment))), size_(size) {
    std::memset(data_, static_cast<int>(value), static_cast<std::size_t>(size));
  }
  ~AlignedBytes() { ::operator delete(data_, kAlignment); }
  AlignedBytes(AlignedBytes&& other) noexcept : data_(other.data_), size_(other.size_) { other.data_ = nullptr; }
  AlignedBytes(const AlignedBytes&) = delete;
  AlignedBytes& operator=(const AlignedBytes&) = delete;

  std::byte* data() const { return data_; }
  std::int64_t size() const { return size_; }
  std::vector<std::byte> copy() const { return {data_, data_ + size_}; }

 private:
  std::byte* data_;
  std::int64_t size_;
};

enum class Bulk { kOff, kOn };

/// "Uploads" the table and runs a batch of it on fibers.
inline void run_on_fibers(const TileTable& table, const TileRange& batch, std::int64_t max_blocks,
                          Bulk bulk = Bulk::kOff) {
  if (batch.empty()) return;
  const AlignedBytes uploaded(table.num_bytes());
  table.write(uploaded.data());
  const std::int64_t num_blocks = cuda::num_blocks_of(batch, max_blocks);
  const auto plain = bulk == Bulk::kOn ? run_copy_tiles_in_bulk : run_copy_tiles;
  const auto run = batch.has_scales ? run_copy_scaled_tiles : plain;
  run(cuda::copy_batch(table.at(uploaded.data()), batch, num_blocks), static_cast<std::uint32_t>(num_blocks));
}

}  // namespace reshard::testing
