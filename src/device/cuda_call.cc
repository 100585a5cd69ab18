// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/device/cuda_call.h"

#include <fmt/format.h>

#include "src/device/driver.h"

namespace reshard {
namespace {

// The runtime takes its codes from the driver, so that one table serves both (CUDA 10.1 and newer).
reshard_status_t status_of(int code) {
  switch (code) {
    case cudaErrorMemoryAllocation:
      return RESHARD_ERR_OUT_OF_MEMORY;
    case cudaErrorInsufficientDriver:
    case cudaErrorStubLibrary:
    case cudaErrorNoDevice:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorNotSupported:
      return RESHARD_ERR_NOT_SUPPORTED;
    case cudaErrorInvalidDevice:
      return RESHARD_ERR_INVALID_ARGUMENT;
    default:
      return RESHARD_ERR_TRANSPORT;
  }
}

bool is_lost_code(int code) {
  switch (code) {
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorContextIsDestroyed:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorMpsClientTerminated:
    case cudaErrorExternalDevice:
      return true;
    default:
      return false;
  }
}

Status failure(std::string_view call, int code, const char* name, const char* text) {
  return {status_of(code), fmt::format("{} failed: {} ({}): {}{}", call, name, code, text,
                                       is_lost_code(code) ? "; CUDA is of no more use in this process: end it" : "")};
}

}  // namespace

bool is_lost(cudaError_t code) {
  return is_lost_code(code);
}
bool is_lost(CUresult code) {
  return is_lost_code(code);
}

Status cuda_status(std::string_view call, cudaError_t code) {
  if (code == cudaSuccess) return {};
  (void)cudaGetLastError();
  return failure(call, code, cudaGetErrorName(code), cudaGetErrorString(code));
}

Status driver_status(std::string_view call, CUresult code) {
  if (code == CUDA_SUCCESS) return {};
  const char* name = nullptr;
  const char* text = nullptr;
  const Result<const Driver*> driver = Driver::get();
  if (driver.ok()) {
    (void)(*driver)->cuGetErrorName(code, &name);
    (void)(*driver)->cuGetErrorString(code, &text);
  }
  return failure(call, code, name == nullptr ? "unknown error" : name, text == nullptr ? "no text" : text);
}

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

}  // namespace reshard
