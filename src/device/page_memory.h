// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Device memory made page by page (the driver's virtual memory management): physical pieces, each with a handle that
// can be exported, mapped one behind the other into a range of addresses. Only for files of this room that are built
// with CUDA.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "src/base/status.h"

namespace reshard {

/// Holds one physical piece; the driver counts holders and mappings, and frees it with the last of both.
class PageHandle {
 public:
  explicit PageHandle(CUmemGenericAllocationHandle value) : value_(value) {}
  PageHandle(PageHandle&& other) noexcept : value_(other.value_) { other.value_ = 0; }
  PageHandle& operator=(PageHandle&&) = delete;
  ~PageHandle();
  CUmemGenericAllocationHandle value() const { return value_; }

 private:
  CUmemGenericAllocationHandle value_;
};

struct PagePiece {
  PageHandle handle;
  std::size_t size_bytes;
};

/// Addresses at which `device` can read and write the pieces, one behind the other.
Result<void*> map_pages(std::span<const PagePiece> pieces, std::int32_t device);

/// Gives back the addresses, all of which map_pages() gave in one call; the pieces go with their last holder.
Status unmap_pages(void* base, std::size_t size_bytes);

/// Lets `device` read and write a range that is mapped in this process for another device.
Status allow_access(const void* base, std::size_t size_bytes, std::int32_t device);

struct PageRange {
  void* base;
  std::size_t size_bytes;  // rounded up to the pages' size
};

/// New memory of the device that can be exported to the whole NVLink domain; nothing where the driver does not do that.
Result<std::optional<PageRange>> allocate_domain_pages(std::int32_t device, std::size_t size_bytes);

}  // namespace reshard
