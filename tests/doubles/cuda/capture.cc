// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/cuda/capture.h"

#include <algorithm>

#include "tests/doubles/cuda/graph.h"
#include "tests/doubles/cuda/state.h"

namespace cuda_double {
namespace {

/// Those that have begun and not ended.
std::vector<std::shared_ptr<Capture>>& captures() {
  static auto& list = *new std::vector<std::shared_ptr<Capture>>;
  return list;
}

bool forbids_unsafe_calls(const Capture& capture) {
  const cudaStreamCaptureMode mode = thread_capture_mode();
  if (mode == cudaStreamCaptureModeRelaxed || capture.mode == cudaStreamCaptureModeRelaxed) return false;
  if (capture.thread == std::this_thread::get_id()) return true;
  return mode == cudaStreamCaptureModeGlobal && capture.mode == cudaStreamCaptureModeGlobal;
}

void leave(Capture* capture) {
  for (StreamState* stream : capture->streams) {
    stream->capture = nullptr;
    stream->frontier.clear();
  }
  capture->streams.clear();
}

}  // namespace

cudaStreamCaptureMode& thread_capture_mode() {
  thread_local cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  return mode;
}

bool Graph::is_behind(const std::set<int>& nodes_behind, int node) const {
  std::set<int> seen;
  std::vector<int> left(nodes_behind.begin(), nodes_behind.end());
  while (!left.empty()) {
    const int next = left.back();
    left.pop_back();
    if (next == node) return true;
    if (next < node || !seen.insert(next).second) continue;  // what is before a node has a lower number
    const auto& after = nodes[static_cast<std::size_t>(next)].after;
    left.insert(left.end(), after.begin(), after.end());
  }
  return false;
}

void Capture::add(StreamState* stream, Work work) {
  work.after.clear();
  graph->nodes.push_back({std::move(work), stream->device, stream->frontier});
  stream->frontier = {static_cast<int>(graph->nodes.size()) - 1};
}

int begin_capture(const std::shared_ptr<StreamState>& stream, cudaStreamCaptureMode mode) {
  static std::uint64_t next_number = 1;
  if (stream->is_legacy) return cudaErrorStreamCaptureUnsupported;
  if (stream->capture != nullptr) return cudaErrorIllegalState;
  auto capture = std::make_shared<Capture>();
  capture->number = next_number++;
  capture->origin = stream.get();
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->streams = {stream.get()};
  stream->capture = capture;
  captures().push_back(std::move(capture));
  return cudaSuccess;
}

int end_capture(const std::shared_ptr<StreamState>& stream, cudaGraph_t* out) {
  *out = nullptr;
  const std::shared_ptr<Capture> capture = stream->capture;
  if (capture == nullptr) return cudaErrorIllegalState;
  if (capture->origin != stream.get()) return cudaErrorStreamCaptureUnmatched;
  const bool is_bound = capture->mode != cudaStreamCaptureModeRelaxed;
  if (is_bound && capture->thread != std::this_thread::get_id()) return cudaErrorStreamCaptureWrongThread;
  const bool is_joined = std::all_of(capture->streams.begin(), capture->streams.end(), [&](StreamState* other) {
    return std::all_of(other->frontier.begin(), other->frontier.end(),
                       [&](int node) { return capture->graph->is_behind(stream->frontier, node); });
  });
  leave(capture.get());
  std::erase(captures(), capture);
  if (capture->is_invalid) return cudaErrorStreamCaptureInvalidated;
  if (!is_joined) return cudaErrorStreamCaptureUnjoined;
  *out = add_graph(std::move(capture->graph));  // events of the capture do not keep it
  return cudaSuccess;
}

int invalidate(Capture* capture, int code) {
  capture->is_invalid = true;
  return code;
}

bool is_unsafe_forbidden() {
  return std::any_of(captures().begin(), captures().end(), [](const auto& c) { return forbids_unsafe_calls(*c); });
}

int code_of_unsafe_call(const char* function) {
  static const std::set<std::string> unsafe{
      "cudaMalloc",     "cudaFree",       "cudaMallocManaged",    "cudaHostAlloc",
      "cudaMallocHost", "cudaFreeHost",   "cudaHostRegister",     "cudaMemcpy",
      "cudaMemset",     "cudaEventQuery", "cudaEventSynchronize", "cudaDeviceSynchronize"};
  if (captures().empty() || unsafe.count(function) == 0 || !is_unsafe_forbidden()) return cudaSuccess;
  for (const auto& capture : captures()) {
    if (forbids_unsafe_calls(*capture)) (void)invalidate(capture.get(), 0);
  }
  return cudaErrorStreamCaptureUnsupported;
}

bool has_capture_behind(const StreamState& legacy) {
  return std::any_of(captures().begin(), captures().end(), [&](const auto& capture) {
    return std::any_of(capture->streams.begin(), capture->streams.end(),
                       [&](const StreamState* other) { return other->is_blocking && other->device == legacy.device; });
  });
}

int check_use(const StreamState& stream) {
  if (stream.capture != nullptr) return stream.capture->is_invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
  if (!stream.is_legacy || !has_capture_behind(stream)) return cudaSuccess;
  for (const auto& capture : captures()) (void)invalidate(capture.get(), 0);
  return cudaErrorStreamCaptureImplicit;
}

int record_event(EventState* event, const std::shared_ptr<StreamState>& stream) {
  if (const int code = check_use(*stream); code != cudaSuccess) return code;
  note_use(*stream, "cudaEventRecord");
  event->capture = stream->capture;
  event->frontier = stream->frontier;
  if (stream->capture == nullptr) event->mark = stream->mark(stream);
  return cudaSuccess;
}

int wait_event(const std::shared_ptr<StreamState>& stream, const EventState& event) {
  if (const int code = check_use(*stream); code != cudaSuccess) return code;
  note_use(*stream, "cudaStreamWaitEvent");
  if (event.capture == nullptr) {
    // What a graph waits for must be in it: it is launched again when the event is long done.
    if (stream->capture != nullptr) return invalidate(stream->capture.get(), cudaErrorStreamCaptureIsolation);
    if (event.mark.is_done()) return cudaSuccess;
    enqueue(stream, {"cudaStreamWaitEvent", [] { return true; }, {event.mark}});
    return cudaSuccess;
  }
  const bool is_running = std::find(captures().begin(), captures().end(), event.capture) != captures().end();
  if (!is_running) return cudaErrorCapturedEvent;
  if (stream->capture == nullptr) {
    if (stream->is_legacy) return invalidate(event.capture.get(), cudaErrorStreamCaptureImplicit);
    stream->capture = event.capture;
    event.capture->streams.push_back(stream.get());
  } else if (stream->capture != event.capture) {
    (void)invalidate(event.capture.get(), 0);
    return invalidate(stream->capture.get(), cudaErrorStreamCaptureMerge);
  }
  stream->frontier.insert(event.frontier.begin(), event.frontier.end());
  return cudaSuccess;
}

}  // namespace cuda_double
