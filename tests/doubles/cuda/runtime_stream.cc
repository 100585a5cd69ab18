// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Streams and events.
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
  cuda_double::note_use(*stream, "cudaEventRecord");
  event->mark = stream->mark(stream);
  return cudaSuccess;
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
  return runtime_call("cudaStreamDestroy", [&] {
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

cudaError_t cudaStreamWaitEvent(cudaStream_t stream_handle, cudaEvent_t event_handle, unsigned int) {
  return runtime_call("cudaStreamWaitEvent", [&] {
    const EventState* const event = cuda_double::event_of(event_handle);
    const auto stream = cuda_double::stream_of(stream_handle);
    if (event == nullptr || !stream) return cudaErrorInvalidResourceHandle;
    const Mark mark = event->mark;
    if (is_left_out("cudaStreamWaitEvent") || mark.is_done()) return cudaSuccess;
    cuda_double::enqueue(stream, {"cudaStreamWaitEvent", [] { return true; }, {mark}});
    return cudaSuccess;
  });
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return runtime_call("cudaStreamQuery", [&]() -> int {
    const auto stream = cuda_double::stream_of(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    return query(stream->mark(stream), "cudaStreamQuery");
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return runtime_call("cudaStreamSynchronize", [&]() -> int {
    const auto stream = cuda_double::stream_of(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    return synchronize(stream->mark(stream), "cudaStreamSynchronize");
  });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  return runtime_call("cudaStreamIsCapturing", [&] {
    *status = cudaStreamCaptureStatusNone;
    return cudaSuccess;
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* argument) {
  return runtime_call("cudaLaunchHostFunc", [&] {
    const auto stream = cuda_double::stream_of(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
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

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned int) {
  return runtime_call("cudaEventRecordWithFlags", [&] { return record(event, stream); });
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  return runtime_call("cudaEventQuery", [&]() -> int {
    const EventState* const event = cuda_double::event_of(handle);
    return event == nullptr ? cudaErrorInvalidResourceHandle : query(event->mark, "cudaEventQuery");
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  return runtime_call("cudaEventSynchronize", [&]() -> int {
    const EventState* const event = cuda_double::event_of(handle);
    return event == nullptr ? cudaErrorInvalidResourceHandle : synchronize(event->mark, "cudaEventSynchronize");
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
