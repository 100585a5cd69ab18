// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What the double of the CUDA runtime promises to the tests that are built on it: above all that it finds what it is
// there to find.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/doubles/cuda/control.h"
#include "tests/unit/device/add_kernel.h"

namespace {

constexpr int kNumElements = 1000;
constexpr std::size_t kBytes = kNumElements * sizeof(int);

int* allocate() {
  void* ptr = nullptr;
  EXPECT_EQ(cudaMalloc(&ptr, kBytes), cudaSuccess);
  return static_cast<int*>(ptr);
}

std::vector<int> peek(const int* device_memory) {
  std::vector<int> out(kNumElements);
  cuda_double_peek(out.data(), device_memory, kBytes);
  return out;
}

class DoubleTest : public testing::Test {
 protected:
  void SetUp() override {
    cuda_double_clear();
    ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  }
};
using DoubleDeathTest = DoubleTest;

TEST_F(DoubleDeathTest, HostDoesNotReadDeviceMemory) {
  int* const memory = allocate();
  ASSERT_EQ(launch_add(memory, memory, kNumElements, 1, nullptr), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_DEATH({ (void)*static_cast<volatile int*>(memory); }, "the host touches 0x.*, memory of device 0");
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
}

TEST_F(DoubleDeathTest, WorkOnFreedMemoryIsFound) {
  int* const memory = allocate();
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  EXPECT_DEATH(
      {
        cuda_double_seed(1);
        for (int count = 0; count < 100; ++count) {  // some seeds do the work at once
          int* const other = allocate();
          cudaMemsetAsync(other, 0, kBytes, stream);
          cudaFree(other);
        }
        cudaStreamSynchronize(stream);
      },
      "freed");
  EXPECT_DEATH(
      {
        launch_add(memory, memory, kNumElements, 1, stream);
        cudaFree(memory);
        cudaStreamSynchronize(stream);
        for (int count = 0; count < 100; ++count) {
          int* const other = allocate();
          launch_add(other, other, kNumElements, 1, stream);
          cudaFree(other);
        }
        cudaStreamSynchronize(stream);
      },
      "a kernel of device 0 touches 0x.*, which was freed");
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(DoubleDeathTest, KernelDoesNotReachADeviceThatItHasNoAccessTo) {
  int* const memory = allocate();
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  int* const other = allocate();
  EXPECT_DEATH(
      {
        launch_add(other, memory, kNumElements, 1, nullptr);
        cudaDeviceSynchronize();
      },
      "a kernel of device 1 touches 0x.*, memory of device 0");
  ASSERT_EQ(cudaDeviceEnablePeerAccess(0, 0), cudaSuccess);
  EXPECT_EQ(launch_add(other, memory, kNumElements, 1, nullptr), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(cudaDeviceDisablePeerAccess(0), cudaSuccess);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_EQ(cudaFree(other), cudaSuccess);
}

TEST_F(DoubleDeathTest, MemoryFreedTwiceIsFound) {
  int* const memory = allocate();
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_DEATH(cudaFree(memory), "freed twice");
}

TEST_F(DoubleDeathTest, KernelThatWritesBehindItsMemoryIsFound) {
  EXPECT_DEATH(
      {
        int* const memory = allocate();
        launch_add(memory, memory, kNumElements + 1, 1, nullptr);
        cudaDeviceSynchronize();
        cudaFree(memory);
      },
      "something wrote byte 4000|AddressSanitizer");
}

TEST_F(DoubleTest, CopyBeyondAnAllocationIsRefused) {
  int* const memory = allocate();
  std::vector<int> host(2 * kNumElements);
  EXPECT_EQ(cudaMemcpyAsync(memory, host.data(), kBytes + 1, cudaMemcpyDefault, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
}

TEST_F(DoubleTest, KernelOfNvccRunsAsItsHostBuild) {
  int* const memory = allocate();
  std::vector<int> host(kNumElements);
  for (int index = 0; index < kNumElements; ++index) host[static_cast<std::size_t>(index)] = index;
  ASSERT_EQ(cudaMemcpy(memory, host.data(), kBytes, cudaMemcpyDefault), cudaSuccess);
  ASSERT_EQ(launch_add(memory, memory, kNumElements, 5, nullptr), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const std::vector<int> out = peek(memory);
  for (int index = 0; index < kNumElements; ++index) ASSERT_EQ(out[static_cast<std::size_t>(index)], index + 5);
  EXPECT_EQ(cuda_double_count().launches, 1);
  EXPECT_EQ(cuda_double_count().uploads, 1);
  EXPECT_EQ(cuda_double_count().uploaded_bytes, static_cast<std::int64_t>(kBytes));
  EXPECT_EQ(cuda_double_count().allocations, 1);
  EXPECT_EQ(cuda_double_calls_of("cudaMalloc"), 1);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
}

TEST_F(DoubleTest, BoxesOfBytesAreCopied) {
  // Rows of 3 bytes, 2 of them a layer, 2 layers: out of pitches of 5 and 20, into pitches of 4 and 12.
  std::vector<unsigned char> host(kBytes);
  for (std::size_t index = 0; index < kBytes; ++index) host[index] = static_cast<unsigned char>(index);
  auto* const source = reinterpret_cast<unsigned char*>(allocate());
  auto* const destination = reinterpret_cast<unsigned char*>(allocate());
  ASSERT_EQ(cudaMemcpy(source, host.data(), kBytes, cudaMemcpyDefault), cudaSuccess);
  ASSERT_EQ(cudaMemset(destination, 0xFF, kBytes), cudaSuccess);
  cudaMemcpy3DBatchOp op{};
  op.src.type = op.dst.type = cudaMemcpyOperandTypePointer;
  op.src.op.ptr.ptr = source + 1;
  op.src.op.ptr.rowLength = 5;
  op.src.op.ptr.layerHeight = 4;
  op.dst.op.ptr.ptr = destination;
  op.dst.op.ptr.rowLength = 4;
  op.dst.op.ptr.layerHeight = 3;
  op.extent = {3, 2, 2};
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  ASSERT_EQ(cudaMemcpy3DBatchAsync(1, &op, 0, stream), cudaSuccess);
  ASSERT_EQ(cudaMemcpy2DAsync(destination + 24, 2, source, 10, 2, 3, cudaMemcpyDefault, stream), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  const std::vector<unsigned char> expected{1,  2,  3,  255, 6,   7,   8,   255, 255, 255, 255, 255, 21, 22, 23, 255,
                                            26, 27, 28, 255, 255, 255, 255, 255, 0,   1,   10,  11,  20, 21, 255};
  std::vector<unsigned char> out(expected.size());
  cuda_double_peek(out.data(), destination, out.size());
  EXPECT_EQ(out, expected);
  EXPECT_EQ(cuda_double_count().device_copies, 2);
  cudaStreamDestroy(stream);
  cudaFree(source);
  cudaFree(destination);
}

/// Fills in one stream, adds in another, with or without the edge between them; whether the result is right.
bool run_two_streams(std::uint64_t seed, bool has_edge) {
  cuda_double_clear();
  cuda_double_seed(seed);
  int* const memory = allocate();
  int* const out = allocate();
  cudaStream_t first = nullptr;
  cudaStream_t second = nullptr;
  cudaEvent_t filled = nullptr;
  cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking);
  cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking);
  cudaEventCreateWithFlags(&filled, cudaEventDisableTiming);
  cudaMemsetAsync(memory, 0, kBytes, first);
  cudaEventRecord(filled, first);
  if (has_edge) cudaStreamWaitEvent(second, filled, 0);
  EXPECT_EQ(launch_add(out, memory, kNumElements, 7, second), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(second), cudaSuccess);
  const bool is_right = peek(out) == std::vector<int>(kNumElements, 7);
  EXPECT_EQ(cudaStreamSynchronize(first), cudaSuccess);
  cudaEventDestroy(filled);
  cudaStreamDestroy(first);
  cudaStreamDestroy(second);
  cudaFree(memory);
  cudaFree(out);
  return is_right;
}

TEST_F(DoubleTest, MissingEdgeIsFoundByMoreThanAQuarterOfTheSeedsAndAPresentOneNeverBlamed) {
  int num_found = 0;
  for (std::uint64_t seed = 0; seed < 64; ++seed) {
    EXPECT_TRUE(run_two_streams(seed, true)) << "seed " << seed;
    const bool is_right = run_two_streams(seed, false);
    EXPECT_EQ(run_two_streams(seed, false), is_right) << "seed " << seed << " means one order";
    if (!is_right) ++num_found;
  }
  EXPECT_GE(num_found, 16);
  EXPECT_EQ(cuda_double_num_live(), 0);
}

TEST_F(DoubleTest, DefaultStreamWaitsForBlockingStreamsAndTheyForIt) {
  for (std::uint64_t seed = 0; seed < 64; ++seed) {
    cuda_double_seed(seed);
    int* const memory = allocate();
    cudaStream_t blocking = nullptr;
    ASSERT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
    cudaMemsetAsync(memory, 0, kBytes, blocking);
    launch_add(memory, memory, kNumElements, 1, nullptr);
    launch_add(memory, memory, kNumElements, 1, blocking);
    ASSERT_EQ(cudaStreamSynchronize(blocking), cudaSuccess);
    EXPECT_EQ(peek(memory), std::vector<int>(kNumElements, 2)) << "seed " << seed;
    cudaStreamDestroy(blocking);
    cudaFree(memory);
  }
}

TEST_F(DoubleTest, FailedWorkFailsAllThatFollows) {
  int* const memory = allocate();
  cuda_double_fail_work(2, cudaErrorIllegalAddress);
  EXPECT_EQ(cudaMemset(memory, 0, kBytes), cudaSuccess);
  EXPECT_EQ(cudaMemset(memory, 0, kBytes), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaFree(memory), cudaErrorIllegalAddress);
  cuda_double_clear();
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
}

TEST_F(DoubleTest, NthCallFailsAndDoesNothing) {
  cuda_double_fail("cudaMalloc", 2, cudaErrorMemoryAllocation);
  int* const memory = allocate();
  void* none = nullptr;
  EXPECT_EQ(cudaMalloc(&none, 1), cudaErrorMemoryAllocation);
  EXPECT_EQ(none, nullptr);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_EQ(cuda_double_num_live(), 0);
}

}  // namespace
