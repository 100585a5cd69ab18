// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What objects of nvcc call: they register their kernels by mangled name while the program starts, and launch them by
// the address of a host function of theirs.
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "tests/doubles/cuda/bound_kernel.h"
#include "tests/doubles/cuda/capture.h"
#include "tests/doubles/cuda/faults.h"
#include "tests/doubles/cuda/memory.h"
#include "tests/doubles/cuda/scheduler.h"
#include "tests/doubles/cuda/state.h"

using cuda_double::runtime_call;
using cuda_double::State;

namespace {

struct Configuration {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes;
  cudaStream_t stream;
};

/// Between <<<>>> and the launch itself.
std::vector<Configuration>& configurations() {
  thread_local std::vector<Configuration> stack;
  return stack;
}

std::map<const void*, std::string>& kernel_names() {
  static auto& names = *new std::map<const void*, std::string>;
  return names;
}

bool is_possible(const Configuration& launch) {
  const std::uint64_t threads = std::uint64_t{launch.block.x} * launch.block.y * launch.block.z;
  return launch.grid.x >= 1 && launch.grid.y >= 1 && launch.grid.z >= 1 && launch.grid.y <= 65535 &&
         launch.grid.z <= 65535 && threads >= 1 && threads <= 1024 && launch.block.z <= 64;
}

int enqueue_launch(const void* function, const Configuration& launch, void** arguments) {
  const auto stream = cuda_double::stream_of(launch.stream);
  const int device = cuda_double::ensured_device();
  if (!stream || stream->device != device) return cudaErrorInvalidResourceHandle;
  if (const int code = cuda_double::check_use(*stream); code != cudaSuccess) return code;
  if (!is_possible(launch)) return cudaErrorInvalidConfiguration;
  if (State::get().machine.major < 8) return cudaErrorNoKernelImageForDevice;
  const auto name = kernel_names().find(function);
  if (name == kernel_names().end()) return cudaErrorInvalidDeviceFunction;
  const cuda_double::KernelBinder binder = cuda_double::find_kernel(name->second);
  if (binder == nullptr) cuda_double::defect(fmt::format("there is no g++ build of the kernel {}", name->second));
  ++State::get().counters.launches;
  const cuda_double::LaunchShape shape{{launch.grid.x, launch.grid.y, launch.grid.z},
                                       {launch.block.x, launch.block.y, launch.block.z},
                                       launch.shared_bytes};
  const auto run = [device, kernel = binder(arguments, shape)] {
    cuda_double::close_for_others(device);
    cuda_double::set_kernel_device(device);
    return kernel();
  };
  cuda_double::enqueue(stream, {"a kernel", run, {}});
  return cudaSuccess;
}

}  // namespace

extern "C" {

// Registration comes from static initialisers, before any device is asked for: no call of the runtime.
void** __cudaRegisterFatBinary(void*) {
  static void* binary = nullptr;
  return &binary;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) {
  return 1;
}

void __cudaRegisterFunction(void**, const char* host_function, char*, const char* device_name, int, uint3*, uint3*,
                            dim3*, dim3*, int*) {
  kernel_names()[host_function] = device_name;
}

void __cudaRegisterVar(void**, char*, char*, const char*, int, std::size_t, int, int) {}

unsigned int __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared_bytes, void* stream) {
  configurations().push_back({grid, block, shared_bytes, static_cast<cudaStream_t>(stream)});
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared_bytes, void* stream) {
  if (configurations().empty()) return cudaErrorMissingConfiguration;
  const Configuration top = configurations().back();
  configurations().pop_back();
  *grid = top.grid;
  *block = top.block;
  *shared_bytes = top.shared_bytes;
  *static_cast<cudaStream_t*>(stream) = top.stream;
  return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* host_function) {
  *kernel = static_cast<cudaKernel_t>(const_cast<void*>(host_function));
  return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, std::size_t shared_bytes,
                               cudaStream_t stream) {
  return runtime_call("cudaLaunchKernel", [&] {
    return enqueue_launch(kernel, {grid, block, shared_bytes, stream}, arguments);
  });
}

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments, std::size_t shared_bytes,
                             cudaStream_t stream) {
  return runtime_call("cudaLaunchKernel", [&] {
    return enqueue_launch(function, {grid, block, shared_bytes, stream}, arguments);
  });
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute, int) {
  return runtime_call("cudaFuncSetAttribute", [&] {
    return kernel_names().count(function) != 0 ? cudaSuccess : cudaErrorInvalidDeviceFunction;
  });
}

}  // extern "C"
