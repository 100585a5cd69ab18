// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The functions of the driver that the runtime has no counterpart for. They are asked for at run time, since a library
// that is linked to libcuda does not load on a machine without a driver.
#pragma once

#include <cuda.h>
#include <cudaTypedefs.h>

#include <cstdint>

#include "src/base/status.h"

namespace reshard {

/// Name, and the version of CUDA that brought the form that is used here.
#define RESHARD_DRIVER_FUNCTIONS(F)       \
  F(cuInit, 2000)                         \
  F(cuGetErrorName, 6000)                 \
  F(cuGetErrorString, 6000)               \
  F(cuDeviceGet, 2000)                    \
  F(cuDeviceGetAttribute, 2000)           \
  F(cuDevicePrimaryCtxRetain, 7000)       \
  F(cuCtxGetCurrent, 4000)                \
  F(cuCtxSetCurrent, 4000)                \
  F(cuPointerGetAttributes, 7000)         \
  F(cuMemGetAddressRange, 3020)           \
  F(cuMemGetAllocationGranularity, 10020) \
  F(cuMemCreate, 10020)                   \
  F(cuMemRelease, 10020)                  \
  F(cuMemAddressReserve, 10020)           \
  F(cuMemAddressFree, 10020)              \
  F(cuMemMap, 10020)                      \
  F(cuMemUnmap, 10020)                    \
  F(cuMemSetAccess, 10020)                \
  F(cuMemRetainAllocationHandle, 11000)   \
  F(cuMemExportToShareableHandle, 10020)  \
  F(cuMemImportFromShareableHandle, 10020)

struct Driver {
#define RESHARD_DRIVER_MEMBER(name, version) PFN_##name##_v##version name = nullptr;
  RESHARD_DRIVER_FUNCTIONS(RESHARD_DRIVER_MEMBER)
#undef RESHARD_DRIVER_MEMBER

  /// The table, filled once per process; or the error that says which driver was found and which is needed.
  static Result<const Driver*> get();
};

/// The primary context of a device, the one that the runtime uses; made on the first call and kept until the process
/// ends.
Result<CUcontext> primary_context(std::int32_t device);

}  // namespace reshard
