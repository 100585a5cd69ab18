// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Graphs of the double: what streams capture runs when the graph is launched, in the order that its edges say, and what
// CUDA forbids meanwhile is forbidden here.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <numeric>
#include <thread>
#include <vector>

#include "tests/doubles/cuda/control.h"
#include "tests/unit/device/add_kernel.h"

namespace {

constexpr int kNumElements = 256;
constexpr std::size_t kBytes = kNumElements * sizeof(int);

class CaptureTest : public testing::Test {
 protected:
  void SetUp() override {
    cuda_double_clear();
    ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaStreamCreateWithFlags(&other_, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaEventCreateWithFlags(&fork_, cudaEventDisableTiming), cudaSuccess);
    ASSERT_EQ(cudaEventCreateWithFlags(&join_, cudaEventDisableTiming), cudaSuccess);
    for (int** memory : {&first_, &second_, &third_}) {
      ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(memory), kBytes), cudaSuccess);
    }
  }
  void TearDown() override {
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    for (int* memory : {first_, second_, third_}) EXPECT_EQ(cudaFree(memory), cudaSuccess);
    for (cudaEvent_t event : {fork_, join_}) EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
    for (cudaStream_t stream : {stream_, other_}) EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
    EXPECT_EQ(cuda_double_num_live(), 0);
  }

  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal) {
    ASSERT_EQ(cudaStreamBeginCapture(stream_, mode), cudaSuccess);
  }
  void fork() {
    EXPECT_EQ(cudaEventRecord(fork_, stream_), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(other_, fork_, 0), cudaSuccess);
  }
  void join() {
    EXPECT_EQ(cudaEventRecord(join_, other_), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(stream_, join_, 0), cudaSuccess);
  }
  /// The code of the end; there is a graph only when that is success.
  cudaError_t end() {
    cudaGraph_t graph = nullptr;
    const cudaError_t code = cudaStreamEndCapture(stream_, &graph);
    EXPECT_EQ(graph != nullptr, code == cudaSuccess);
    if (graph != nullptr) {
      EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    }
    return code;
  }
  cudaGraphExec_t end_and_instantiate() {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    EXPECT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    return exec;
  }
  static std::vector<int> peek(const int* memory) {
    std::vector<int> out(kNumElements);
    cuda_double_peek(out.data(), memory, kBytes);
    return out;
  }
  static void poke(int* memory, int value) {
    const std::vector<int> in(kNumElements, value);
    cuda_double_poke(memory, in.data(), kBytes);
  }

  cudaStream_t stream_ = nullptr;
  cudaStream_t other_ = nullptr;
  cudaEvent_t fork_ = nullptr;
  cudaEvent_t join_ = nullptr;
  int* first_ = nullptr;
  int* second_ = nullptr;
  int* third_ = nullptr;
};

TEST_F(CaptureTest, NothingRunsBeforeTheGraphIsLaunchedAndEverythingEachTimeItIs) {
  poke(first_, 0);
  begin();
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  ASSERT_EQ(cudaStreamIsCapturing(stream_, &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusActive);
  ASSERT_EQ(cudaStreamIsCapturing(other_, &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusNone);
  ASSERT_EQ(launch_add(first_, first_, kNumElements, 1, stream_), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(second_, first_, kBytes, cudaMemcpyDefault, stream_), cudaSuccess);
  ASSERT_EQ(cudaMemsetAsync(third_, 0, kBytes, stream_), cudaSuccess);
  cudaGraphExec_t exec = end_and_instantiate();
  EXPECT_EQ(cuda_double_num_queued(), 0);
  for (int run = 1; run <= 3; ++run) {
    poke(third_, 7);
    ASSERT_EQ(cudaGraphLaunch(exec, stream_), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_EQ(peek(second_), std::vector<int>(kNumElements, run));
    EXPECT_EQ(peek(third_), std::vector<int>(kNumElements, 0));
  }
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
}

TEST_F(CaptureTest, EdgesBetweenStreamsAreThoseOfTheGraphAndAMissingOneIsFound) {
  int num_found = 0;
  for (std::uint64_t seed = 0; seed < 64; ++seed) {
    cuda_double_seed(seed);
    for (const bool has_edge : {true, false}) {
      begin();
      fork();
      ASSERT_EQ(cudaMemsetAsync(first_, 0, kBytes, stream_), cudaSuccess);
      if (has_edge) fork();
      ASSERT_EQ(launch_add(second_, first_, kNumElements, 7, other_), cudaSuccess);
      join();
      ASSERT_EQ(launch_add(third_, second_, kNumElements, 1, stream_), cudaSuccess);
      cudaGraphExec_t exec = end_and_instantiate();
      bool is_right = true;
      for (cudaStream_t launched_in : {stream_, other_}) {
        poke(first_, 100);
        ASSERT_EQ(cudaGraphLaunch(exec, launched_in), cudaSuccess);
        ASSERT_EQ(cudaStreamSynchronize(launched_in), cudaSuccess);
        is_right = is_right && peek(third_) == std::vector<int>(kNumElements, 8);
      }
      ASSERT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
      EXPECT_TRUE(is_right || !has_edge) << "seed " << seed;
      if (!is_right) ++num_found;
    }
  }
  EXPECT_GE(num_found, 4);
}

TEST_F(CaptureTest, WorkBehindALaunchWaitsForAllOfTheGraph) {
  for (std::uint64_t seed = 0; seed < 32; ++seed) {
    cuda_double_seed(seed);
    poke(first_, 0);
    begin();
    fork();
    ASSERT_EQ(launch_add(second_, first_, kNumElements, 1, other_), cudaSuccess);
    join();
    cudaGraphExec_t exec = end_and_instantiate();
    ASSERT_EQ(cudaGraphLaunch(exec, stream_), cudaSuccess);
    ASSERT_EQ(launch_add(third_, second_, kNumElements, 1, stream_), cudaSuccess);
    ASSERT_EQ(cudaGraphExecDestroy(exec), cudaSuccess) << "while it runs";
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_EQ(peek(third_), std::vector<int>(kNumElements, 2)) << "seed " << seed;
  }
}

TEST_F(CaptureTest, LaunchesOfOneGraphFollowEachOtherInAnyStreams) {
  for (std::uint64_t seed = 0; seed < 32; ++seed) {
    cuda_double_seed(seed);
    poke(first_, 0);
    begin();
    ASSERT_EQ(launch_add(second_, first_, kNumElements, 1, stream_), cudaSuccess);
    ASSERT_EQ(cudaMemcpyAsync(first_, second_, kBytes, cudaMemcpyDefault, stream_), cudaSuccess);
    cudaGraphExec_t exec = end_and_instantiate();
    for (cudaStream_t launched_in : {stream_, other_, stream_}) {
      ASSERT_EQ(cudaGraphLaunch(exec, launched_in), cudaSuccess);
    }
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_EQ(peek(first_), std::vector<int>(kNumElements, 3)) << "seed " << seed;
    ASSERT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  }
}

TEST_F(CaptureTest, StreamThatIsNotJoinedIsAnError) {
  begin();
  fork();
  ASSERT_EQ(cudaMemsetAsync(first_, 0, kBytes, other_), cudaSuccess);
  EXPECT_EQ(end(), cudaErrorStreamCaptureUnjoined);
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusActive;
  ASSERT_EQ(cudaStreamIsCapturing(other_, &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusNone) << "nothing captures after the end";
}

TEST_F(CaptureTest, WaitingForACaptureIsForbiddenAndSpoilsIt) {
  begin();
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaMemsetAsync(first_, 0, kBytes, stream_), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  begin();
  EXPECT_EQ(cudaStreamQuery(stream_), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  begin(cudaStreamCaptureModeRelaxed);
  EXPECT_EQ(cudaEventRecord(fork_, stream_), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(fork_), cudaErrorCapturedEvent);
  EXPECT_EQ(end(), cudaSuccess);
}

TEST_F(CaptureTest, UnsafeCallsAreForbiddenAsTheModesSay) {
  void* memory = nullptr;
  begin();
  EXPECT_EQ(cudaMalloc(&memory, 1), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  begin();
  std::thread([&] { EXPECT_EQ(cudaMalloc(&memory, 1), cudaErrorStreamCaptureUnsupported); }).join();
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  begin(cudaStreamCaptureModeThreadLocal);
  std::thread([&] {
    EXPECT_EQ(cudaMalloc(&memory, 1), cudaSuccess);
    EXPECT_EQ(cudaFree(memory), cudaSuccess);
  }).join();
  EXPECT_EQ(end(), cudaSuccess);
  begin();
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  ASSERT_EQ(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
  EXPECT_EQ(mode, cudaStreamCaptureModeGlobal);
  EXPECT_EQ(cudaMalloc(&memory, 1), cudaSuccess);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  ASSERT_EQ(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
  EXPECT_EQ(end(), cudaSuccess);
}

TEST_F(CaptureTest, EdgesAcrossTheBorderOfACaptureAreForbidden) {
  ASSERT_EQ(cudaMemsetAsync(first_, 0, kBytes, other_), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(join_, other_), cudaSuccess);
  begin();
  EXPECT_EQ(cudaStreamWaitEvent(stream_, join_, 0), cudaErrorStreamCaptureIsolation);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  begin();
  EXPECT_EQ(cudaStreamWaitEvent(stream_, join_, cudaEventWaitExternal), cudaSuccess);
  EXPECT_EQ(end(), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(other_, cudaStreamCaptureModeGlobal), cudaSuccess);
  begin();
  ASSERT_EQ(cudaEventRecord(fork_, stream_), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(other_, fork_, 0), cudaErrorStreamCaptureMerge);
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(other_, &graph), cudaErrorStreamCaptureInvalidated);
}

TEST_F(CaptureTest, OnlyTheStreamAndThreadThatBeganEnd) {
  begin();
  fork();
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(other_, &graph), cudaErrorStreamCaptureUnmatched);
  std::thread([&] { EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorStreamCaptureWrongThread); }).join();
  join();
  EXPECT_EQ(end(), cudaSuccess);
  EXPECT_EQ(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
}

TEST_F(CaptureTest, DefaultStreamDoesNotWaitForACapture) {
  cudaStream_t blocking = nullptr;
  ASSERT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeRelaxed), cudaSuccess);
  EXPECT_EQ(launch_add(first_, first_, kNumElements, 1, nullptr), cudaErrorStreamCaptureImplicit);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(blocking, &graph), cudaErrorStreamCaptureInvalidated);
  (void)cudaGetLastError();
  begin();
  EXPECT_EQ(launch_add(first_, first_, kNumElements, 1, nullptr), cudaSuccess) << "the stream does not wait for it";
  EXPECT_EQ(end(), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
}

TEST_F(CaptureTest, EventsOutsideAreRecordedWhenTheGraphGetsThere) {
  begin();
  ASSERT_EQ(cudaMemsetAsync(first_, 0, kBytes, stream_), cudaSuccess);
  ASSERT_EQ(cudaEventRecordWithFlags(join_, stream_, cudaEventRecordExternal), cudaSuccess);
  cudaGraphExec_t exec = end_and_instantiate();
  ASSERT_EQ(cudaGraphLaunch(exec, stream_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(join_), cudaSuccess);
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
}

}  // namespace
