// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/device/driver.h"

#include <map>
#include <memory>
#include <mutex>

#include <fmt/format.h>

#include "src/device/cuda_call.h"
#include "src/device/device.h"

namespace reshard {
namespace {

Status load(const char* name, unsigned int version, void** function) {
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  RESHARD_TRY(cuda_status(fmt::format("cudaGetDriverEntryPointByVersion of {}", name),
                          cudaGetDriverEntryPointByVersion(name, function, version, cudaEnableDefault, &found)));
  if (found == cudaDriverEntryPointSuccess && *function != nullptr) return {};
  return {RESHARD_ERR_NOT_SUPPORTED,
          fmt::format("the CUDA driver has no {} of CUDA {}: device memory needs a driver for CUDA {} or newer", name,
                      version_text(static_cast<int>(version)), version_text(CUDART_VERSION / 1000 * 1000))};
}

Result<std::unique_ptr<const Driver>> load_all() {
  RESHARD_TRY([[maybe_unused]] const std::int32_t count, num_devices());
  auto driver = std::make_unique<Driver>();
#define RESHARD_DRIVER_LOAD(name, version) RESHARD_TRY(load(#name, version, reinterpret_cast<void**>(&driver->name)));
  RESHARD_DRIVER_FUNCTIONS(RESHARD_DRIVER_LOAD)
#undef RESHARD_DRIVER_LOAD
  if (const CUresult code = driver->cuInit(0); code != CUDA_SUCCESS) {
    return Status(RESHARD_ERR_NOT_SUPPORTED, fmt::format("cuInit failed with code {}", static_cast<int>(code)));
  }
  return std::unique_ptr<const Driver>(std::move(driver));
}

// Both belong to the process as the driver itself does: a context is made once per device, and nothing here can be set.
std::mutex driver_mutex;
std::unique_ptr<const Driver> loaded;
std::mutex context_mutex;  // apart from the other: what fails while it is held asks the driver for the error's text
std::map<std::int32_t, CUcontext> contexts;

}  // namespace

Result<const Driver*> Driver::get() {
  const std::lock_guard<std::mutex> lock(driver_mutex);
  if (!loaded) {
    RESHARD_TRY(loaded, load_all());
  }
  return loaded.get();
}

Result<CUcontext> primary_context(std::int32_t device) {
  RESHARD_TRY(const Driver* driver, Driver::get());
  const std::lock_guard<std::mutex> lock(context_mutex);
  if (const auto found = contexts.find(device); found != contexts.end()) return found->second;
  RESHARD_TRY(check_device(device));
  CUdevice handle = 0;
  CUcontext context = nullptr;
  RESHARD_TRY(driver_status("cuDeviceGet", driver->cuDeviceGet(&handle, device)));
  RESHARD_TRY(driver_status(fmt::format("cuDevicePrimaryCtxRetain of device {}", device),
                            driver->cuDevicePrimaryCtxRetain(&context, handle)));
  contexts.emplace(device, context);
  return context;
}

}  // namespace reshard
