// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What runs on the double in place of the kernel in add_kernel.cu.
#include "tests/doubles/cuda/bound_kernel.h"

namespace {

bool run_add(const cuda_double::LaunchShape& shape, int* out, const int* in, int num_elements, int value) {
  const int num_threads = static_cast<int>(shape.grid[0] * shape.block[0]);
  for (int index = 0; index < num_threads && index < num_elements; ++index) out[index] = in[index] + value;
  return true;
}

const bool registered =
    cuda_double::register_kernel("_Z3addPiPKiii", cuda_double::bind_arguments<run_add, int*, const int*, int, int>);

}  // namespace
