// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A kernel of the tests' own, in an object of nvcc like those of production.
#include "tests/unit/device/add_kernel.h"

__global__ void add(int* out, const int* in, int num_elements, int value) {
  const int index = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (index < num_elements) out[index] = in[index] + value;
}

int launch_add(int* out, const int* in, int num_elements, int value, void* stream) {
  constexpr int kBlock = 128;
  const int num_blocks = (num_elements + kBlock - 1) / kBlock;
  add<<<num_blocks, kBlock, 0, static_cast<cudaStream_t>(stream)>>>(out, in, num_elements, value);
  return static_cast<int>(cudaGetLastError());
}
