// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// ncclMemAlloc and ncclMemFree. NCCL gives memory of whole pages that the driver maps; here it is of the same kind.
#include <nccl.h>

#include "tests/doubles/nccl/world.h"

#pragma GCC visibility push(default)

extern "C" {

ncclResult_t ncclMemAlloc(void** out, std::size_t size_bytes) {
  return nccl_double::call("ncclMemAlloc", [&] {
    if (out == nullptr || size_bytes == 0) return ncclInvalidArgument;
    *out = nccl_double::cuda().allocate_pages(size_bytes);
    return *out == nullptr ? ncclUnhandledCudaError : ncclSuccess;
  });
}

ncclResult_t ncclMemFree(void* ptr) {
  return nccl_double::call("ncclMemFree", [&] {
    return ptr == nullptr || nccl_double::cuda().free_pages(ptr) ? ncclSuccess : ncclInvalidUsage;
  });
}

}  // extern "C"
