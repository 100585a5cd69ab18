// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Streams and events.
#include "tests/doubles/cuda/capture.h"
#include "tests/doubles/cuda/scheduler.h"
#include "tests/doubles/cuda/state.h"

using cuda_double::EventState;
using cuda_double::is_left_out;
using cuda_double::Mark;
using cuda_double::runtime_call;
using cuda_double::State;

namespace {

int create_stream(cudaStream_t* out, unsigned int flags) {
  const int device = cuda_double::ensured_device();
  *out = static_cast<cudaStream_t>(cuda_double::add_stream(device, (flags & cudaStreamNonBlocking) == 0));
  return cudaSuccess;
}

int create_event(cudaEvent_t* out) {
  *out = static_cast<cudaEvent_t>(cuda_double::add_event(cuda_double::ensured_device()));
  return cudaSuccess;
}

int query(const Mark& mark, const char* function) {
  if (!mark.is_done()) cuda_double::do_some();
  if (State::get().lost_code != 0) return State::get().lost_code;
  return mark.is_done() || is_left_out(function) ? cudaSuccess : cudaErrorNotReady;
}

int synchronize(const Mark& mark, const char* function) {
  if (!mark.is_done() && is_left_out(function)) return cudaSuccess;
  cuda_double::work_until(mark, function);
  return State::get().lost_code;
}

int record(cudaEvent_t event_handle, cudaStream_t stream_handle) {
  EventState* const event = cuda_double::event_of(event_handle);
  const auto stream = cuda_double::stream_of(stream_handle);
  if (event == nullptr || !stream || event->device != stream->device) return cudaErrorInvalidResourceHandle;
  return cuda_double::record_event(event, stream);
}

/// Events of the world outside of a graph, recorded and waited for when the graph gets there.
int record_outside(cudaEvent_t handle, const std::shared_ptr<cuda_double::StreamState>& stream) {
  if (cuda_double::event_of(handle) == nullptr) return cudaErrorInvalidResourceHandle;
  const auto run = [handle] {
    if (EventState* const event = cuda_double::event_of(handle)) *event = {event->device, {}, {}, {}};
    return true;
  };
  cuda_double::enqueue(stream, {"cudaEventRecord in a graph", run, {}});
  return cudaSuccess;
}
int wait_outside(cudaEvent_t handle, const std::shared_ptr<cuda_double::StreamState>& stream) {
  const auto run = [handle] {
    const EventState* const event = cuda_double::event_of(handle);
    return event == nullptr || event->mark.is_done();
  };
  cuda_double::enqueue(stream, {"cudaStreamWaitEvent in a graph", run, {}});
  return cudaSuccess;
}

/// What may not be asked of a stream that captures, and ends the capture.
int check_not_capturing(const cuda_double::StreamState& stream) {
  if (stream.capture != nullptr) {
    return cuda_double::invalidate(stream.capture.get(), cudaErrorStreamCaptureUnsupported);
  }
  const bool is_implicit = stream.is_legacy && cuda_double::has_capture_behind(stream);
  return is_implicit ? cudaErrorStreamCaptureImplicit : cudaSuccess;
}

}  // namespace

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t* out) {
  return runtime_call("cudaStreamCreate", [&] { return create_stream(out, cudaStreamDefault); });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned int flags) {
  return runtime_call("cudaStreamCreateWithFlags", [&] { return create_stream(out, flags); });
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* out, unsigned int flags, int) {
  return runtime_call("cudaStreamCreateWithPriority", [&] { return create_stream(out, flags); });
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return runtime_call("cudaStreamDestroy", [&]() -> int {
    const auto found = cuda_double::stream_of(stream);
    if (found != nullptr && found->capture != nullptr) {
      return cuda_double::invalidate(found->capture.get(), cudaErrorStreamCaptureUnsupported);
    }
    return cuda_double::remove_stream(stream) ? cudaSuccess : cudaErrorInvalidResourceHandle;
  });
}

cudaError_t cudaStreamGetDevice(cudaStream_t handle, int* device) {
  return runtime_call("cudaStreamGetDevice", [&] {
    const auto stream = cuda_double::stream_of(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    *device = stream->device;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream_handle, cudaEvent_t event_handle, unsigned int flags) {
  return runtime_call("cudaStreamWaitEvent", [&]() -> int {
    const EventState* const event = cuda_double::event_of(event_handle);
    const auto stream = cuda_double::stream_of(stream_handle);
    if (event == nullptr || !stream) return cudaErrorInvalidResourceHandle;
    if (is_left_out("cudaStreamWaitEvent")) return cudaSuccess;
    if (stream->capture != nullptr && (flags & cudaEventWaitExternal) != 0) return wait_outside(event_handle, stream);
    return cuda_double::wait_event(stream, *event);
  });
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return runtime_call("cudaStreamQuery", [&]() -> int {
    const auto stream = cuda_double::stream_of(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (const int code = check_not_capturing(*stream); code != cudaSuccess) return code;
    return query(stream->mark(stream), "cudaStreamQuery");
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return runtime_call("cudaStreamSynchronize", [&]() -> int {
    const auto stream = cuda_double::stream_of(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (const int code = check_not_capturing(*stream); code != cudaSuccess) return code;
    return synchronize(stream->mark(stream), "cudaStreamSynchronize");
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* argument) {
  return runtime_call("cudaLaunchHostFunc", [&] {
    const auto stream = cuda_double::stream_of(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (const int code = cuda_double::check_use(*stream); code != cudaSuccess) return static_cast<cudaError_t>(code);
    cuda_double::enqueue(stream, {"a host function", [=] { return function(argument), true; }, {}});
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreate(cudaEvent_t* out) {
  return runtime_call("cudaEventCreate", [&] { return create_event(out); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* out, unsigned int) {
  return runtime_call("cudaEventCreateWithFlags", [&] { return create_event(out); });
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return runtime_call("cudaEventDestroy",
                      [&] { return cuda_double::remove_event(event) ? cudaSuccess : cudaErrorInvalidResourceHandle; });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return runtime_call("cudaEventRecord", [&] { return record(event, stream); });
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t handle, unsigned int flags) {
  return runtime_call("cudaEventRecordWithFlags", [&]() -> int {
    const auto stream = cuda_double::stream_of(handle);
    const bool is_outside = stream != nullptr && stream->capture != nullptr && (flags & cudaEventRecordExternal) != 0;
    return is_outside ? record_outside(event, stream) : record(event, handle);
  });
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  return runtime_call("cudaEventQuery", [&]() -> int {
    const EventState* const event = cuda_double::event_of(handle);
    if (event == nullptr) return cudaErrorInvalidResourceHandle;
    return event->capture != nullptr ? cudaErrorCapturedEvent : query(event->mark, "cudaEventQuery");
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  return runtime_call("cudaEventSynchronize", [&]() -> int {
    const EventState* const event = cuda_double::event_of(handle);
    if (event == nullptr) return cudaErrorInvalidResourceHandle;
    return event->capture != nullptr ? cudaErrorCapturedEvent : synchronize(event->mark, "cudaEventSynchronize");
  });
}

/// Nothing here takes a time that means anything: one microsecond for each piece of work between the two.
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin_handle, cudaEvent_t end_handle) {
  return runtime_call("cudaEventElapsedTime", [&] {
    const EventState* const begin = cuda_double::event_of(begin_handle);
    const EventState* const end = cuda_double::event_of(end_handle);
    if (begin == nullptr || end == nullptr) return cudaErrorInvalidResourceHandle;
    if (!begin->mark.is_done() || !end->mark.is_done()) return cudaErrorNotReady;
    *milliseconds = 1e-3F * static_cast<float>(end->mark.number - begin->mark.number + 1);
    return cudaSuccess;
  });
}

}  // extern "C"
