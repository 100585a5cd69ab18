// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Devices, versions and errors.
#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "tests/doubles/cuda/memory.h"
#include "tests/doubles/cuda/scheduler.h"
#include "tests/doubles/cuda/state.h"

using cuda_double::runtime_call;
using cuda_double::State;

namespace {

bool is_device(int device) {
  return device >= 0 && device < State::get().machine.num_devices;
}

struct NamedCode {
  int code;
  const char* name;
  const char* text;
};

// Those that tests inject or that the double itself gives; names and texts as CUDA's documentation has them.
constexpr NamedCode kCodes[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorDeviceUninitialized, "cudaErrorDeviceUninitialized", "invalid device context"},
    {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
    {cudaErrorPeerAccessUnsupported, "cudaErrorPeerAccessUnsupported",
     "peer access is not supported between these two devices"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorPeerAccessAlreadyEnabled, "cudaErrorPeerAccessAlreadyEnabled", "peer access is already enabled"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotPermitted, "cudaErrorNotPermitted", "operation not permitted"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorIllegalState, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
    {cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureMerge, "cudaErrorStreamCaptureMerge",
     "operation would result in a merge of separate capture sequences"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

const NamedCode& named(int code) {
  const auto* found = std::find_if(std::begin(kCodes), std::end(kCodes), [&](const auto& c) { return c.code == code; });
  return found == std::end(kCodes) ? *(std::end(kCodes) - 1) : *found;
}

}  // namespace

extern "C" {

cudaError_t cudaDriverGetVersion(int* version) {
  // The one call that answers without a driver, or with one that is too old.
  const std::lock_guard<std::recursive_mutex> lock(State::get().mutex);
  const int code = cuda_double::begin_call("cudaDriverGetVersion");
  if (code != cudaSuccess && code != cudaErrorInsufficientDriver && code != cudaErrorNoDevice) {
    return static_cast<cudaError_t>(code);
  }
  *version = State::get().machine.driver_version;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  return runtime_call("cudaGetDeviceCount", [&] {
    *count = State::get().machine.num_devices;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDevice(int* device) {
  return runtime_call("cudaGetDevice", [&] {
    *device = cuda_double::current_device();
    return cudaSuccess;
  });
}

cudaError_t cudaSetDevice(int device) {
  return runtime_call("cudaSetDevice", [&] {
    if (!is_device(device)) return cudaErrorInvalidDevice;
    cuda_double::set_current_device(device);
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return runtime_call("cudaGetDeviceProperties", [&] {
    if (!is_device(device)) return cudaErrorInvalidDevice;
    *properties = {};
    const cuda_double::Machine& machine = State::get().machine;
    const std::string name = fmt::format("double of a GPU, number {}", device);
    std::memcpy(properties->name, name.c_str(), name.size() + 1);
    properties->uuid.bytes[0] = static_cast<char>(device + 1);
    properties->totalGlobalMem = machine.memory_bytes;
    properties->major = machine.major;
    properties->minor = machine.minor;
    properties->multiProcessorCount = 132;
    properties->l2CacheSize = 50 << 20;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = 1024;
    properties->sharedMemPerBlock = 48 << 10;
    properties->unifiedAddressing = 1;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return runtime_call("cudaDeviceGetAttribute", [&] {
    if (!is_device(device)) return cudaErrorInvalidDevice;
    switch (attribute) {
      case cudaDevAttrMultiProcessorCount:
        *value = 132;
        return cudaSuccess;
      case cudaDevAttrComputeCapabilityMajor:
        *value = State::get().machine.major;
        return cudaSuccess;
      case cudaDevAttrComputeCapabilityMinor:
        *value = State::get().machine.minor;
        return cudaSuccess;
      case cudaDevAttrL2CacheSize:
        *value = 50 << 20;
        return cudaSuccess;
      default:
        cuda_double::defect(fmt::format("attribute {} of a device is not played", static_cast<int>(attribute)));
    }
  });
}

cudaError_t cudaDeviceSynchronize() {
  return runtime_call("cudaDeviceSynchronize", [&]() -> int {
    cuda_double::work_until_idle(cuda_double::ensured_device(), "cudaDeviceSynchronize");
    return State::get().lost_code;
  });
}

cudaError_t cudaDeviceCanAccessPeer(int* answer, int device, int peer) {
  return runtime_call("cudaDeviceCanAccessPeer", [&] {
    if (!is_device(device) || !is_device(peer)) return cudaErrorInvalidDevice;
    *answer = device != peer && State::get().machine.has_peer_access ? 1 : 0;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned int) {
  return runtime_call("cudaDeviceEnablePeerAccess", [&] {
    const int device = cuda_double::ensured_device();
    if (!is_device(peer) || peer == device) return cudaErrorInvalidDevice;
    if (!State::get().machine.has_peer_access) return cudaErrorPeerAccessUnsupported;
    bool& enabled = State::get().has_access.at(static_cast<std::size_t>(device)).at(static_cast<std::size_t>(peer));
    if (enabled) return cudaErrorPeerAccessAlreadyEnabled;
    enabled = true;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceDisablePeerAccess(int peer) {
  return runtime_call("cudaDeviceDisablePeerAccess", [&] {
    const int device = cuda_double::ensured_device();
    if (!is_device(peer)) return cudaErrorInvalidDevice;
    State::get().has_access.at(static_cast<std::size_t>(device)).at(static_cast<std::size_t>(peer)) = false;
    return cudaSuccess;
  });
}

cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* all_bytes) {
  return runtime_call("cudaMemGetInfo", [&] {
    const std::uint64_t used = cuda_double::used_bytes(cuda_double::ensured_device());
    *all_bytes = State::get().machine.memory_bytes;
    *free_bytes = *all_bytes > used ? *all_bytes - used : 0;
    return cudaSuccess;
  });
}

cudaError_t cudaGetLastError() {
  return static_cast<cudaError_t>(std::exchange(cuda_double::last_error(), 0));
}
cudaError_t cudaPeekAtLastError() {
  return static_cast<cudaError_t>(cuda_double::last_error());
}
const char* cudaGetErrorName(cudaError_t code) {
  return named(code).name;
}
const char* cudaGetErrorString(cudaError_t code) {
  return named(code).text;
}

}  // extern "C"
