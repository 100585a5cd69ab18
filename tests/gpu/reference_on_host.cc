// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What runs on the double of the runtime in place of the kernel in reference_kernel.cu.
#include "tests/doubles/cuda/bound_kernel.h"
#include "tests/gpu/reference_element.h"

namespace {

bool run_reference_copy(const cuda_double::LaunchShape& /*shape*/, const reshard::CopyOp& op, int element_bytes,
                        std::int64_t num_elements) {
  for (std::int64_t index = 0; index < num_elements; ++index) {
    reshard::testing::copy_element(op, element_bytes, index);
  }
  return true;
}

const bool registered = cuda_double::register_kernel(
    "reference_copy", cuda_double::bind_arguments<run_reference_copy, reshard::CopyOp, int, std::int64_t>);

}  // namespace
