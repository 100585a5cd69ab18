// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/device/device.h"

#include <utility>

#include <fmt/format.h>

#include "src/device/cuda_call.h"
#include "src/device/driver.h"

namespace reshard {
namespace {

// A driver serves every runtime of its own major version.
constexpr int kNeededVersion = CUDART_VERSION / 1000 * 1000;
constexpr const char* kNeededDriver = "NVIDIA driver 580 or newer";
constexpr int kNeededMajor = 8;  // of the compute capability: the oldest that kernels are compiled for

Status check_driver() {
  int version = 0;  // stays 0 without a driver
  RESHARD_TRY(cuda_status("cudaDriverGetVersion", cudaDriverGetVersion(&version)));
  if (version == 0) {
    return {RESHARD_ERR_NOT_SUPPORTED,
            fmt::format("no CUDA driver was found (libcuda.so.1 does not load): device memory needs one for CUDA {} or "
                        "newer ({})",
                        version_text(kNeededVersion), kNeededDriver)};
  }
  if (version < kNeededVersion) {
    return {RESHARD_ERR_NOT_SUPPORTED,
            fmt::format("the CUDA driver of this machine serves CUDA {}, but device memory needs CUDA {} or newer ({})",
                        version_text(version), version_text(kNeededVersion), kNeededDriver)};
  }
  return {};
}

Status check_index(std::int32_t index) {
  RESHARD_TRY(const std::int32_t count, num_devices());
  if (index >= 0 && index < count) return {};
  return invalid_argument(fmt::format(
      "there is no device {}: this process sees {}, numbered from 0 (CUDA_VISIBLE_DEVICES chooses)", index, count));
}

}  // namespace

bool built_with_cuda() {
  return true;
}

Result<std::int32_t> num_devices() {
  RESHARD_TRY(check_driver());
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaErrorNoDevice || (code == cudaSuccess && count == 0)) {
    (void)cudaGetLastError();
    return Status(RESHARD_ERR_NOT_SUPPORTED,
                  "the CUDA driver finds no device on this machine for this process: see what nvidia-smi -L lists, and "
                  "CUDA_VISIBLE_DEVICES");
  }
  RESHARD_TRY(cuda_status("cudaGetDeviceCount", code));
  return static_cast<std::int32_t>(count);
}

Result<DeviceInfo> device_info(std::int32_t index) {
  RESHARD_TRY(check_index(index));
  cudaDeviceProp properties{};
  RESHARD_TRY(cuda_status("cudaGetDeviceProperties", cudaGetDeviceProperties(&properties, index)));
  DeviceInfo info;
  info.index = index;
  info.name = properties.name;
  info.major = properties.major;
  info.minor = properties.minor;
  info.num_sms = properties.multiProcessorCount;
  info.l2_bytes = properties.l2CacheSize;
  info.memory_bytes = static_cast<std::int64_t>(properties.totalGlobalMem);
  for (const char byte : properties.uuid.bytes) info.uuid += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return info;
}

/// Called for every buffer and every allocation, so it asks for one attribute: all properties take milliseconds.
Status check_device(std::int32_t index) {
  RESHARD_TRY(check_index(index));
  int major = 0;
  RESHARD_TRY(
      cuda_status("cudaDeviceGetAttribute", cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index)));
  if (major >= kNeededMajor) return {};
  RESHARD_TRY(const DeviceInfo info, device_info(index));
  return {RESHARD_ERR_NOT_SUPPORTED,
          fmt::format("device {} ({}) has compute capability {}.{}, but {}.0 or newer is needed", index, info.name,
                      info.major, info.minor, kNeededMajor)};
}

Result<DeviceGuard> DeviceGuard::enter(std::int32_t device) {
  RESHARD_TRY(CUcontext context, primary_context(device));
  RESHARD_TRY(const Driver* driver, Driver::get());
  CUcontext callers = nullptr;
  RESHARD_TRY(driver_status("cuCtxGetCurrent", driver->cuCtxGetCurrent(&callers)));
  DeviceGuard guard;
  if (callers == context) return guard;
  RESHARD_TRY(driver_status("cuCtxSetCurrent", driver->cuCtxSetCurrent(context)));
  guard.callers_context_ = callers;
  guard.is_changed_ = true;
  return guard;
}

DeviceGuard::DeviceGuard(DeviceGuard&& other) noexcept
    : callers_context_(other.callers_context_), is_changed_(std::exchange(other.is_changed_, false)) {}

DeviceGuard::~DeviceGuard() {
  if (!is_changed_) return;
  // The table is there: it was used to get here.
  if (const auto driver = Driver::get(); driver.ok()) {
    (void)(*driver)->cuCtxSetCurrent(static_cast<CUcontext>(callers_context_));
  }
}

}  // namespace reshard
