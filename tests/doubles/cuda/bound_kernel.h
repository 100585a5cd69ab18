// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The seam between the double and the g++ builds of kernels: nvcc's object registers a kernel by its mangled name and
// launches it by that; here is what runs in its place.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <string>
#include <tuple>
#include <utility>

namespace cuda_double {

struct LaunchShape {
  std::array<unsigned int, 3> grid;
  std::array<unsigned int, 3> block;
  std::size_t shared_bytes;  // dynamic
};

/// A launch with its arguments copied, to be run when its turn comes. False: it waits for something that others have to
/// do (a flag), and is called again later; what it has done until then must not hurt when it is done twice.
using BoundKernel = std::function<bool()>;

/// Copies the arguments, whose sizes only the kernel knows, while the caller's launch is under way.
using KernelBinder = BoundKernel (*)(void** arguments, const LaunchShape& shape);

/// By static initialisers: `const bool registered = register_kernel("_Z3addPfi", bind_add);`
bool register_kernel(const char* mangled_name, KernelBinder binder);

/// Null when there is none of that name.
KernelBinder find_kernel(const std::string& mangled_name);

/// A binder for `run(shape, arguments...)`, which returns bool as BoundKernel does.
template <auto kRun, typename... Arguments>
BoundKernel bind_arguments(void** arguments, const LaunchShape& shape) {
  return [&]<std::size_t... kIndex>(std::index_sequence<kIndex...>)->BoundKernel {
    std::tuple<Arguments...> copied(*static_cast<Arguments*>(arguments[kIndex])...);
    return [shape, copied] {
      return std::apply([&](const Arguments&... values) { return kRun(shape, values...); }, copied);
    };
  }
  (std::index_sequence_for<Arguments...>());
}

}  // namespace cuda_double
