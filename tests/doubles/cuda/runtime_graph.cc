// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Capture and graphs.
#include <algorithm>
#include <utility>

#include "tests/doubles/cuda/capture.h"
#include "tests/doubles/cuda/graph.h"
#include "tests/doubles/cuda/state.h"

using cuda_double::runtime_call;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  return runtime_call("cudaStreamBeginCapture", [&]() -> int {
    const auto stream = cuda_double::stream_of(handle);
    return stream == nullptr ? cudaErrorInvalidResourceHandle : cuda_double::begin_capture(stream, mode);
  });
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  return runtime_call("cudaStreamEndCapture", [&]() -> int {
    const auto stream = cuda_double::stream_of(handle);
    return stream == nullptr ? cudaErrorInvalidResourceHandle : cuda_double::end_capture(stream, graph);
  });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  return runtime_call("cudaStreamIsCapturing", [&] {
    const auto stream = cuda_double::stream_of(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (stream->is_legacy && cuda_double::has_capture_behind(*stream)) return cudaErrorStreamCaptureImplicit;
    *status = stream->capture == nullptr    ? cudaStreamCaptureStatusNone
              : stream->capture->is_invalid ? cudaStreamCaptureStatusInvalidated
                                            : cudaStreamCaptureStatusActive;
    return cudaSuccess;
  });
}

/// Of the graph only the number: nobody adds nodes to it by hand here.
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t handle, cudaStreamCaptureStatus* status, unsigned long long* number,
                                     cudaGraph_t* graph, const cudaGraphNode_t** nodes, const cudaGraphEdgeData** edges,
                                     std::size_t* num_nodes) {
  const cudaError_t code = cudaStreamIsCapturing(handle, status);
  if (code != cudaSuccess) return code;
  return runtime_call("cudaStreamGetCaptureInfo", [&] {
    const auto stream = cuda_double::stream_of(handle);
    if (graph != nullptr) *graph = nullptr;
    if (nodes != nullptr) *nodes = nullptr;
    if (edges != nullptr) *edges = nullptr;
    if (num_nodes != nullptr) *num_nodes = 0;
    if (number != nullptr && stream->capture != nullptr) *number = stream->capture->number;
    return cudaSuccess;
  });
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return runtime_call("cudaThreadExchangeStreamCaptureMode", [&] {
    std::swap(*mode, cuda_double::thread_capture_mode());
    return cudaSuccess;
  });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long) {
  return runtime_call("cudaGraphInstantiate", [&] { return cuda_double::instantiate_graph(graph, out); });
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* out, cudaGraph_t graph, unsigned long long) {
  return runtime_call("cudaGraphInstantiateWithFlags", [&] { return cuda_double::instantiate_graph(graph, out); });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t handle) {
  return runtime_call("cudaGraphLaunch", [&]() -> int {
    const auto stream = cuda_double::stream_of(handle);
    return stream == nullptr ? cudaErrorInvalidResourceHandle : cuda_double::launch_graph(exec, stream);
  });
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t handle) {
  return runtime_call("cudaGraphUpload", [&] {
    return cuda_double::stream_of(handle) == nullptr ? cudaErrorInvalidResourceHandle : cudaSuccess;
  });
}

/// How many there are; the nodes themselves are nobody's.
cudaError_t cudaGraphGetNodes(cudaGraph_t handle, cudaGraphNode_t* nodes, std::size_t* num_nodes) {
  return runtime_call("cudaGraphGetNodes", [&] {
    const cuda_double::Graph* const graph = cuda_double::graph_of(handle);
    if (graph == nullptr || num_nodes == nullptr) return cudaErrorInvalidValue;
    if (nodes != nullptr) std::fill_n(nodes, *num_nodes, nullptr);
    *num_nodes = graph->nodes.size();
    return cudaSuccess;
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return runtime_call("cudaGraphDestroy",
                      [&] { return cuda_double::remove_graph(graph) ? cudaSuccess : cudaErrorInvalidValue; });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  return runtime_call("cudaGraphExecDestroy",
                      [&] { return cuda_double::remove_graph_exec(exec) ? cudaSuccess : cudaErrorInvalidValue; });
}

}  // extern "C"
