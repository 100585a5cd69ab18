// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/gpu/reference_kernel.h"

#include "tests/gpu/reference_element.h"

extern "C" __global__ void reference_copy(reshard::CopyOp op, int element_bytes, std::int64_t num_elements) {
  const auto index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index < num_elements) reshard::testing::copy_element(op, element_bytes, index);
}

namespace reshard::testing {

Status launch_reference_copy(const CopyOp& op, void* stream) {
  constexpr int kBlockThreads = 128;
  std::int64_t num_elements = 1;
  for (int d = 0; d < op.num_dims; ++d) num_elements *= op.shape[d];
  if (num_elements == 0) return {};
  const auto num_blocks = static_cast<unsigned>((num_elements + kBlockThreads - 1) / kBlockThreads);
  reference_copy<<<num_blocks, kBlockThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      op, static_cast<int>(size_bytes(op.dst_dtype)), num_elements);
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return {};
  return {RESHARD_ERR_TRANSPORT, std::string("launch of the reference: ") + cudaGetErrorString(error)};
}

}  // namespace reshard::testing
