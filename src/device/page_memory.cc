// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/device/page_memory.h"

#include <fmt/format.h>

#include "src/device/cuda_call.h"
#include "src/device/driver.h"

namespace reshard {
namespace {

CUdeviceptr address_of(const void* ptr) {
  return reinterpret_cast<CUdeviceptr>(ptr);
}

CUmemAllocationProp domain_properties(std::int32_t device) {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties.location.id = device;
  properties.requestedHandleTypes =
      static_cast<CUmemAllocationHandleType>(CU_MEM_HANDLE_TYPE_FABRIC | CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  return properties;
}

Result<bool> has_attribute(const Driver& driver, CUdevice_attribute attribute, std::int32_t device) {
  int value = 0;
  CUdevice handle = 0;
  RESHARD_TRY(driver_status("cuDeviceGet", driver.cuDeviceGet(&handle, device)));
  RESHARD_TRY(driver_status("cuDeviceGetAttribute", driver.cuDeviceGetAttribute(&value, attribute, handle)));
  return value != 0;
}

Status map_behind_each_other(const Driver& driver, std::span<const PagePiece> pieces, CUdeviceptr base) {
  CUdeviceptr next = base;
  for (const PagePiece& piece : pieces) {
    const CUresult code = driver.cuMemMap(next, piece.size_bytes, 0, piece.handle.value(), 0);
    if (code != CUDA_SUCCESS) {
      if (next != base) (void)driver.cuMemUnmap(base, next - base);
      return driver_status("cuMemMap", code);
    }
    next += piece.size_bytes;
  }
  return {};
}

}  // namespace

PageHandle::~PageHandle() {
  if (value_ == 0) return;
  if (const auto driver = Driver::get(); driver.ok()) (void)(*driver)->cuMemRelease(value_);
}

Result<void*> map_pages(std::span<const PagePiece> pieces, std::int32_t device) {
  RESHARD_TRY(const Driver* driver, Driver::get());
  std::size_t size_bytes = 0;
  for (const PagePiece& piece : pieces) size_bytes += piece.size_bytes;
  CUdeviceptr base = 0;
  RESHARD_TRY(driver_status(fmt::format("cuMemAddressReserve of {} bytes", size_bytes),
                            driver->cuMemAddressReserve(&base, size_bytes, 0, 0, 0)));
  if (Status mapped = map_behind_each_other(*driver, pieces, base); !mapped.ok()) {
    (void)driver->cuMemAddressFree(base, size_bytes);
    return mapped;
  }
  auto* const ptr = reinterpret_cast<void*>(base);
  if (Status allowed = allow_access(ptr, size_bytes, device); !allowed.ok()) {
    (void)unmap_pages(ptr, size_bytes);
    return allowed;
  }
  return ptr;
}

Status unmap_pages(void* base, std::size_t size_bytes) {
  RESHARD_TRY(const Driver* driver, Driver::get());
  RESHARD_TRY(driver_status("cuMemUnmap", driver->cuMemUnmap(address_of(base), size_bytes)));
  return driver_status("cuMemAddressFree", driver->cuMemAddressFree(address_of(base), size_bytes));
}

Status allow_access(const void* base, std::size_t size_bytes, std::int32_t device) {
  RESHARD_TRY(const Driver* driver, Driver::get());
  CUmemAccessDesc access{};
  access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  access.location.id = device;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  return driver_status(fmt::format("cuMemSetAccess of {} bytes for device {}", size_bytes, device),
                       driver->cuMemSetAccess(address_of(base), size_bytes, &access, 1));
}

Result<std::optional<PageRange>> allocate_domain_pages(std::int32_t device, std::size_t size_bytes) {
  RESHARD_TRY(const Driver* driver, Driver::get());
  RESHARD_TRY(const bool is_supported,
              has_attribute(*driver, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED, device));
  if (!is_supported) return std::optional<PageRange>();
  const CUmemAllocationProp properties = domain_properties(device);
  std::size_t page_bytes = 0;
  RESHARD_TRY(driver_status(
      "cuMemGetAllocationGranularity",
      driver->cuMemGetAllocationGranularity(&page_bytes, &properties, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED)));
  const std::size_t rounded_bytes = (size_bytes + page_bytes - 1) / page_bytes * page_bytes;
  CUmemGenericAllocationHandle handle = 0;
  const CUresult code = driver->cuMemCreate(&handle, rounded_bytes, &properties, 0);
  // Devices say that they could even where the service that hands the handles out (IMEX) does not run.
  if (code == CUDA_ERROR_NOT_PERMITTED || code == CUDA_ERROR_NOT_SUPPORTED) return std::optional<PageRange>();
  RESHARD_TRY(driver_status(fmt::format("cuMemCreate of {} bytes on device {}", rounded_bytes, device), code));
  const PagePiece piece{PageHandle(handle), rounded_bytes};
  RESHARD_TRY(void* base, map_pages(std::span(&piece, 1), device));
  return std::optional<PageRange>(PageRange{base, rounded_bytes});
}

}  // namespace reshard
