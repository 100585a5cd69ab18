// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What streams are given while they capture, and graphs that run it again, as often as they are launched.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "tests/doubles/cuda/scheduler.h"

namespace cuda_double {

/// What waits for what: pieces of work, and the edges between them.
struct Graph {
  struct Node {
    Work work;
    int device = 0;
    std::set<int> after;  // nodes before it
  };
  std::vector<Node> nodes;

  /// Whether one of these nodes is this one or comes behind it.
  bool is_behind(const std::set<int>& nodes_behind, int node) const;
};

/// From cudaStreamBeginCapture to cudaStreamEndCapture.
struct Capture {
  std::uint64_t number = 0;
  std::shared_ptr<Graph> graph = std::make_shared<Graph>();
  StreamState* origin = nullptr;
  std::vector<StreamState*> streams;  // that take part
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  bool is_invalid = false;

  /// One more piece of work of the stream, behind what it was given before.
  void add(StreamState* stream, Work work);
};

int begin_capture(const std::shared_ptr<StreamState>& stream, cudaStreamCaptureMode mode);
int end_capture(const std::shared_ptr<StreamState>& stream, cudaGraph_t* out);
/// Ends without a graph what has been captured: something was done that it forbids.
int invalidate(Capture* capture, int code);

/// Whether this thread may not do what could wait for streams, or give memory behind the back of a capture.
bool is_unsafe_forbidden();
/// What a call that is unsafe gives now: cudaSuccess, or the code that also ends the captures that forbid it.
int code_of_unsafe_call(const char* function);
/// Whether the default stream would wait for a stream that captures.
bool has_capture_behind(const StreamState& legacy);

/// Whether work may be put into the stream: not when its capture is spoiled, nor into the default stream while it would
/// wait for a stream that captures.
int check_use(const StreamState& stream);

/// The stream waits for what another was given until now: in a queue or in a graph.
int record_event(EventState* event, const std::shared_ptr<StreamState>& stream);
int wait_event(const std::shared_ptr<StreamState>& stream, const EventState& event);

int instantiate_graph(cudaGraph_t graph, cudaGraphExec_t* out);
int launch_graph(cudaGraphExec_t exec, const std::shared_ptr<StreamState>& stream);
Graph* graph_of(cudaGraph_t handle);
bool remove_graph(cudaGraph_t handle);
bool remove_graph_exec(cudaGraphExec_t handle);
std::int64_t num_graphs();  ///< handles, both kinds

}  // namespace cuda_double
