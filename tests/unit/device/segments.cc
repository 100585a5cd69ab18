// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/device/segments.h"

#include <cuda.h>
#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include "tests/unit/device/two_processes.h"

namespace reshard {
namespace {

template <typename Function>
Function driver_function(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  RESHARD_REQUIRE(cudaGetDriverEntryPointByVersion(name, &found, 13000, cudaEnableDefault, &result) == cudaSuccess);
  return reinterpret_cast<Function>(found);
}

}  // namespace

ExpandableSegment::ExpandableSegment(int device, std::size_t num_pieces, unsigned int handle_types)
    : size_bytes_(num_pieces * kPieceBytes) {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  properties.location.id = device;
  properties.requestedHandleTypes = static_cast<CUmemAllocationHandleType>(handle_types);
  CUdeviceptr base = 0;
  RESHARD_REQUIRE(driver_function<PFN_cuMemAddressReserve_v10020>("cuMemAddressReserve")(&base, size_bytes_, 0, 0, 0) ==
                  CUDA_SUCCESS);
  for (std::size_t index = 0; index < num_pieces; ++index) {
    CUmemGenericAllocationHandle handle = 0;
    RESHARD_REQUIRE(driver_function<PFN_cuMemCreate_v10020>("cuMemCreate")(&handle, kPieceBytes, &properties, 0) ==
                    CUDA_SUCCESS);
    RESHARD_REQUIRE(driver_function<PFN_cuMemMap_v10020>("cuMemMap")(base + index * kPieceBytes, kPieceBytes, 0, handle,
                                                                     0) == CUDA_SUCCESS);
    RESHARD_REQUIRE(driver_function<PFN_cuMemRelease_v10020>("cuMemRelease")(handle) == CUDA_SUCCESS);
  }
  CUmemAccessDesc access{};
  access.location = properties.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  RESHARD_REQUIRE(driver_function<PFN_cuMemSetAccess_v10020>("cuMemSetAccess")(base, size_bytes_, &access, 1) ==
                  CUDA_SUCCESS);
  data_ = reinterpret_cast<std::byte*>(base);
}

ExpandableSegment::~ExpandableSegment() {
  const auto base = reinterpret_cast<CUdeviceptr>(data_);
  RESHARD_REQUIRE(driver_function<PFN_cuMemUnmap_v10020>("cuMemUnmap")(base, size_bytes_) == CUDA_SUCCESS);
  RESHARD_REQUIRE(driver_function<PFN_cuMemAddressFree_v10020>("cuMemAddressFree")(base, size_bytes_) == CUDA_SUCCESS);
}

}  // namespace reshard
