// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// usage: stream_order [ROUNDS [poll|nccl|graph]]       20, poll unless given
//
// A run belongs between what the caller's stream holds before it and what waits for its groups after it. Two ranks, as
// threads on the first device: in every round each queues a delay and then new source values on a stream of its own,
// starts the run on that stream without waiting for anything, and another stream, which is told to wait for the event
// of each group and for nothing else, carries the group's destination to the host. A run that reads before its time
// finds the values of the round before. With poll, groups are waited for before their events are asked for; with nccl
// the events are there right after start; with graph the run is captured once and launched in every round. Prints one
// line of JSON, with the mean seconds from the start of a round to the end of its run, the delay included; exit status
// 0: every element was right; 77: NCCL is missing, or does not take the ranks.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "reshard/reshard.h"

namespace {

constexpr std::int64_t kExtent = 1024;  // of both dims of the tensors
constexpr std::int64_t kShareElements = kExtent * kExtent / 2;
constexpr std::size_t kShareBytes = static_cast<std::size_t>(kShareElements) * sizeof(float);
constexpr int kNumRanks = 2;
constexpr int kNumTensors = 2;  // each a group of its own
constexpr std::int64_t kTimeoutUs = 20'000'000;
constexpr auto kDelay = std::chrono::milliseconds(3);

enum class Way { kPoll, kNccl, kGraph };

void check(reshard_status_t status, const char* what) {
  if (status == RESHARD_OK) return;
  std::fprintf(stderr, "stream_order: %s: %s\n", what, reshard_last_error());
  std::_Exit(status == RESHARD_ERR_NOT_SUPPORTED ? 77 : 1);
}

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "stream_order: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

/// Rows become columns.
std::string spec() {
  const std::string extent = std::to_string(kExtent);
  const auto side = [](const char* dim) {
    return std::string(R"({"dtype": "F32", "mesh": {"axes": [["s", 2]], "ranks": [0, 1]}, "placements": [{"shard": )") +
           dim + "}]}";
  };
  std::string tensors;
  for (int tensor = 0; tensor < kNumTensors; ++tensor) {
    tensors += std::string(tensor == 0 ? "" : ", ") + R"({"name": "t)" + std::to_string(tensor) + R"(", "group": )" +
               std::to_string(tensor) + R"(, "shape": [)" + extent + ", " + extent + R"(], "src": )" + side("0") +
               R"(, "dst": )" + side("1") + "}";
  }
  return R"({"version": 1, "ranks": 2, "tensors": [)" + tensors + "]}";
}

/// Whole numbers below 2^24, so that floats hold them.
float value_of(int round, int tensor, std::int64_t element) {
  return static_cast<float>((element * 3 + round * 1'000'003 + tensor * 7'919) % 16'777'213);
}

struct Plan {
  reshard_layout_t src = nullptr;
  reshard_layout_t dst = nullptr;
  reshard_plan_t plan = nullptr;
};

class Rank {
 public:
  Rank(const Plan& plan, reshard_comm_t comm, int rank, Way way) : plan_(plan), comm_(comm), rank_(rank), way_(way) {
    check(cudaSetDevice(0), "choosing the device");
    for (cudaStream_t* stream : {&before_, &after_}) {
      check(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking), "making a stream");
    }
    for (int tensor = 0; tensor < kNumTensors; ++tensor) {
      src_.push_back(make_buffer(plan.src, tensor));
      dst_.push_back(make_buffer(plan.dst, tensor));
      for (auto* images : {&source_, &found_}) {
        void* image = nullptr;
        check(cudaMallocHost(&image, kShareBytes), "allocating pinned memory");
        images->push_back(static_cast<float*>(image));
      }
    }
    bind();
    if (way_ == Way::kGraph) capture();
  }

  /// Elements that were wrong.
  std::int64_t play(int round) {
    check(cudaLaunchHostFunc(
              before_, [](void*) { std::this_thread::sleep_for(kDelay); }, nullptr),
          "queueing a delay");
    for (int tensor = 0; tensor < kNumTensors; ++tensor) queue_source(round, tensor);
    const auto start = std::chrono::steady_clock::now();
    if (way_ == Way::kGraph) {
      check(cudaGraphLaunch(launched_, before_), "launching the graph");
      check(reshard_binding_finish(binding_, kTimeoutUs), "finish");
      for (int tensor = 0; tensor < kNumTensors; ++tensor) queue_look(tensor);
    } else {
      check(reshard_binding_start(binding_, before_), "start");
      for (int tensor = 0; tensor < kNumTensors; ++tensor) {
        wait_for_group(tensor);
        queue_look(tensor);
      }
      check(reshard_binding_finish(binding_, kTimeoutUs), "finish");
    }
    seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    check(cudaStreamSynchronize(after_), "waiting for what was seen");
    std::int64_t num_wrong = 0;
    for (int tensor = 0; tensor < kNumTensors; ++tensor) num_wrong += count_wrong(round, tensor);
    return num_wrong;
  }

  double seconds() const { return seconds_; }

  void close() {
    if (way_ == Way::kGraph) {  // which must be gone before its binding
      check(cudaGraphExecDestroy(launched_), "destroying the graph");
      check(cudaGraphDestroy(graph_), "destroying the graph");
    }
    reshard_binding_destroy(binding_);
    for (const auto& buffers : {src_, dst_}) {
      for (const reshard_buffer_t& buffer : buffers) check(reshard_free(comm_, buffer.ptr), "freeing");
    }
    for (const auto& images : {source_, found_}) {
      for (float* image : images) check(cudaFreeHost(image), "freeing pinned memory");
    }
    for (cudaStream_t stream : {before_, after_}) check(cudaStreamDestroy(stream), "destroying a stream");
  }

 private:
  reshard_buffer_t make_buffer(reshard_layout_t layout, int tensor) const {
    reshard_buffer_info_t info;
    reshard_buffer_info_init(&info);
    check(reshard_layout_get_buffer(layout, rank_, tensor, &info), "reading a buffer");
    reshard_buffer_t buffer;
    reshard_buffer_init(&buffer);
    buffer.id = info.id;
    buffer.memory = RESHARD_MEMORY_CUDA;
    buffer.device = 0;
    buffer.size_bytes = kShareBytes;
    check(reshard_alloc_on(comm_, buffer.memory, buffer.device, buffer.size_bytes, &buffer.ptr), "allocating");
    return buffer;
  }

  void bind() {
    reshard_binding_desc_t desc;
    reshard_binding_desc_init(&desc);
    desc.plan = plan_.plan;
    desc.comm = comm_;
    desc.num_src_buffers = desc.num_dst_buffers = kNumTensors;
    desc.src_buffers = src_.data();
    desc.dst_buffers = dst_.data();
    desc.timeout_us = kTimeoutUs;
    desc.driver = way_ == Way::kPoll ? RESHARD_DRIVER_POLL : RESHARD_DRIVER_NCCL;
    desc.capturable = way_ == Way::kGraph ? 1 : 0;
    check(reshard_binding_create(&desc, &binding_), "bind");
  }

  void capture() {
    check(cudaStreamBeginCapture(before_, cudaStreamCaptureModeThreadLocal), "beginning to capture");
    check(reshard_binding_start(binding_, before_), "start while capturing");
    check(cudaStreamEndCapture(before_, &graph_), "ending to capture");
    check(cudaGraphInstantiate(&launched_, graph_, 0), "making the graph ready");
  }

  /// So that the other stream waits for it.
  void wait_for_group(int tensor) {
    if (way_ == Way::kPoll) check(reshard_binding_wait_group(binding_, tensor, kTimeoutUs), "waiting for a group");
    void* event = nullptr;
    check(reshard_binding_get_group_event(binding_, tensor, &event), "the event of a group");
    check(cudaStreamWaitEvent(after_, static_cast<cudaEvent_t>(event), 0), "waiting for the event");
  }

  void queue_source(int round, int tensor) {
    const auto index = static_cast<std::size_t>(tensor);
    for (std::int64_t i = 0; i < kShareElements; ++i) {
      source_[index][i] = value_of(round, tensor, rank_ * kShareElements + i);
    }
    check(cudaMemcpyAsync(src_[index].ptr, source_[index], kShareBytes, cudaMemcpyDefault, before_), "queueing values");
  }

  void queue_look(int tensor) {
    const auto index = static_cast<std::size_t>(tensor);
    check(cudaMemcpyAsync(found_[index], dst_[index].ptr, kShareBytes, cudaMemcpyDefault, after_), "queueing a look");
  }

  std::int64_t count_wrong(int round, int tensor) const {
    const float* found = found_[static_cast<std::size_t>(tensor)];
    std::int64_t num_wrong = 0;
    for (std::int64_t i = 0; i < kShareElements; ++i) {
      const std::int64_t row = i / (kExtent / 2);
      const std::int64_t column = i % (kExtent / 2) + rank_ * (kExtent / 2);
      num_wrong += found[i] == value_of(round, tensor, row * kExtent + column) ? 0 : 1;
    }
    return num_wrong;
  }

  Plan plan_;
  reshard_comm_t comm_;
  int rank_;
  Way way_;
  double seconds_ = 0;
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t launched_ = nullptr;
  cudaStream_t before_ = nullptr;
  cudaStream_t after_ = nullptr;
  std::vector<reshard_buffer_t> src_;
  std::vector<reshard_buffer_t> dst_;
  std::vector<float*> source_;  // pinned, by tensor
  std::vector<float*> found_;   // likewise
  reshard_binding_t binding_ = nullptr;
};

}  // namespace

int main(int argc, char** argv) {
  const int num_rounds = argc > 1 ? std::atoi(argv[1]) : 20;
  const char* name = argc > 2 ? argv[2] : "poll";
  const Way way = std::strcmp(name, "nccl") == 0    ? Way::kNccl
                  : std::strcmp(name, "graph") == 0 ? Way::kGraph
                                                    : Way::kPoll;
  Plan plan;
  check(reshard_layout_create_from_spec(spec().c_str(), &plan.src, &plan.dst), "spec");
  check(reshard_plan_create(plan.src, plan.dst, nullptr, &plan.plan), "plan");
  reshard_comm_t comms[kNumRanks];
  check(reshard_comm_create_local(kNumRanks, nullptr, comms), "comm");
  std::int64_t num_wrong[kNumRanks] = {};
  double seconds[kNumRanks] = {};
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kNumRanks; ++rank) {
    threads.emplace_back([&, rank] {
      Rank mine(plan, comms[rank], rank, way);
      for (int round = 0; round < num_rounds; ++round) num_wrong[rank] += mine.play(round);
      seconds[rank] = mine.seconds();
      mine.close();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (reshard_comm_t comm : comms) reshard_comm_destroy(comm);
  reshard_plan_destroy(plan.plan);
  reshard_layout_destroy(plan.src);
  reshard_layout_destroy(plan.dst);
  const std::int64_t total = num_wrong[0] + num_wrong[1];
  std::printf("{\"way\": \"%s\", \"rounds\": %d, \"elements_wrong\": %lld, \"seconds_per_round\": %.6f}\n", name,
              num_rounds, static_cast<long long>(total), std::max(seconds[0], seconds[1]) / std::max(num_rounds, 1));
  return total == 0 ? 0 : 1;
}
