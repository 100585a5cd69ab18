// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/cuda/bound_kernel.h"

#include <map>

namespace cuda_double {
namespace {

// Made on first use: other files register while they are initialised.
std::map<std::string, KernelBinder>& kernels() {
  static auto& table = *new std::map<std::string, KernelBinder>;
  return table;
}

}  // namespace

bool register_kernel(const char* mangled_name, KernelBinder binder) {
  return kernels().emplace(mangled_name, binder).second;
}

KernelBinder find_kernel(const std::string& mangled_name) {
  const auto found = kernels().find(mangled_name);
  return found == kernels().end() ? nullptr : found->second;
}

}  // namespace cuda_double
