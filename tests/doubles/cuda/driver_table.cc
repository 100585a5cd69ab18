// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Functions of the driver, as far as production asks for them: the runtime hands out their addresses.
#include <cstring>

#include <fmt/format.h>

#include "tests/doubles/cuda/driver_pages.h"
#include "tests/doubles/cuda/memory.h"
#include "tests/doubles/cuda/state.h"

namespace cuda_double {
namespace {

CUresult get_name(CUresult code, const char** out) {
  *out = cudaGetErrorName(static_cast<cudaError_t>(code));
  return CUDA_SUCCESS;
}

CUresult get_text(CUresult code, const char** out) {
  *out = cudaGetErrorString(static_cast<cudaError_t>(code));
  return CUDA_SUCCESS;
}

CUresult init(unsigned int) {
  return driver_call("cuInit", [] { return CUDA_SUCCESS; });
}

CUresult get_device(CUdevice* out, int ordinal) {
  return driver_call("cuDeviceGet", [&] {
    if (ordinal < 0 || ordinal >= State::get().machine.num_devices) return CUDA_ERROR_INVALID_DEVICE;
    *out = ordinal;
    return CUDA_SUCCESS;
  });
}

CUresult get_attribute(int* out, CUdevice_attribute attribute, CUdevice) {
  return driver_call("cuDeviceGetAttribute", [&] {
    switch (attribute) {
      case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED:
        *out = State::get().machine.has_fabric ? 1 : 0;
        break;
      case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
      case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED:
        *out = 1;
        break;
      default:
        defect(fmt::format("attribute {} of the driver's device is not played", static_cast<int>(attribute)));
    }
    return CUDA_SUCCESS;
  });
}

CUresult retain_primary(CUcontext* out, CUdevice device) {
  return driver_call("cuDevicePrimaryCtxRetain", [&] {
    *out = context_of(device);
    State::get().has_context.at(static_cast<std::size_t>(device)) = true;
    return CUDA_SUCCESS;
  });
}

CUresult get_current(CUcontext* out) {
  return driver_call("cuCtxGetCurrent", [&] {
    *out = current_context();
    return CUDA_SUCCESS;
  });
}

CUresult set_current(CUcontext context) {
  return driver_call("cuCtxSetCurrent", [&] {
    set_current_context(context);
    return CUDA_SUCCESS;
  });
}

bool is_of_host(const Allocation* found) {
  return found != nullptr && (found->kind == Kind::kPinned || found->kind == Kind::kManaged);
}

void write_attribute(CUpointer_attribute attribute, const Allocation* found, void* out) {
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE: {
      const unsigned int type = found == nullptr    ? 0
                                : is_of_host(found) ? static_cast<unsigned int>(CU_MEMORYTYPE_HOST)
                                                    : static_cast<unsigned int>(CU_MEMORYTYPE_DEVICE);
      std::memcpy(out, &type, sizeof type);
      break;
    }
    case CU_POINTER_ATTRIBUTE_IS_MANAGED: {
      const unsigned int is_managed = found != nullptr && found->kind == Kind::kManaged ? 1 : 0;
      std::memcpy(out, &is_managed, sizeof is_managed);
      break;
    }
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: {
      const int device = found == nullptr ? -2 : found->device;
      std::memcpy(out, &device, sizeof device);
      break;
    }
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE: {
      const unsigned int is_capable = found != nullptr && found->kind == Kind::kMalloc ? 1 : 0;
      std::memcpy(out, &is_capable, sizeof is_capable);
      break;
    }
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES: {
      const std::uint64_t types = found != nullptr && found->kind == Kind::kPages ? found->segment->handle_types : 0;
      std::memcpy(out, &types, sizeof types);
      break;
    }
    default:
      defect(fmt::format("attribute {} of a pointer is not played", static_cast<int>(attribute)));
  }
}

CUresult get_pointer_attributes(unsigned int count, CUpointer_attribute* attributes, void** out, CUdeviceptr ptr) {
  return driver_call("cuPointerGetAttributes", [&] {
    const Allocation* found = find(reinterpret_cast<void*>(ptr));
    for (unsigned int index = 0; index < count; ++index) write_attribute(attributes[index], found, out[index]);
    return CUDA_SUCCESS;
  });
}

CUresult get_address_range(CUdeviceptr* base, std::size_t* size_bytes, CUdeviceptr ptr) {
  return driver_call("cuMemGetAddressRange", [&] {
    const Allocation* found = find(reinterpret_cast<void*>(ptr));
    if (found == nullptr) return CUDA_ERROR_NOT_FOUND;
    *base = found->base;
    *size_bytes = found->size_bytes;
    return CUDA_SUCCESS;
  });
}

template <typename Function>
void* address_of(Function* function) {
  return reinterpret_cast<void*>(function);
}

void* find_function(const std::string& name) {
  if (name == "cuInit") return address_of(init);
  if (name == "cuGetErrorName") return address_of(get_name);
  if (name == "cuGetErrorString") return address_of(get_text);
  if (name == "cuDeviceGet") return address_of(get_device);
  if (name == "cuDeviceGetAttribute") return address_of(get_attribute);
  if (name == "cuDevicePrimaryCtxRetain") return address_of(retain_primary);
  if (name == "cuCtxGetCurrent") return address_of(get_current);
  if (name == "cuCtxSetCurrent") return address_of(set_current);
  if (name == "cuPointerGetAttributes") return address_of(get_pointer_attributes);
  if (name == "cuMemGetAddressRange") return address_of(get_address_range);
  return find_page_function(name);
}

}  // namespace
}  // namespace cuda_double

extern "C" cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** out, unsigned int, unsigned long long,
                                                        cudaDriverEntryPointQueryResult* result) {
  return cuda_double::runtime_call("cudaGetDriverEntryPointByVersion", [&] {
    *out = cuda_double::find_function(name);
    *result = *out == nullptr ? cudaDriverEntryPointSymbolNotFound : cudaDriverEntryPointSuccess;
    return cudaSuccess;
  });
}
