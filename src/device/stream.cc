// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/device/stream.h"

#include <fmt/format.h>

#include "src/device/cuda_call.h"
#include "src/device/device.h"

namespace reshard {
namespace {

cudaStream_t stream_of(void* handle) {
  return static_cast<cudaStream_t>(handle);
}
cudaEvent_t event_of(void* handle) {
  return static_cast<cudaEvent_t>(handle);
}

/// Of a query: done, not yet, or failed.
Result<bool> answer(const char* call, cudaError_t code) {
  if (code == cudaErrorNotReady) {
    (void)cudaGetLastError();  // the runtime keeps it as if it were an error, and the next launch would report it
    return false;
  }
  RESHARD_TRY(cuda_status(call, code));
  return true;
}

}  // namespace

Result<Stream> Stream::create(std::int32_t device) {
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device));
  cudaStream_t handle = nullptr;
  RESHARD_TRY(cuda_status(fmt::format("cudaStreamCreateWithFlags on device {}", device),
                          cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking)));
  return Stream(handle, device, true);
}

Result<Stream> Stream::borrow(void* handle, std::int32_t device) {
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device));
  int owner = -1;
  RESHARD_TRY(
      cuda_status("cudaStreamGetDevice of the caller's stream", cudaStreamGetDevice(stream_of(handle), &owner)));
  if (owner != device) {
    return invalid_argument(
        fmt::format("the stream {} is one of device {}, but this rank uses device {}", handle, owner, device));
  }
  return Stream(handle, device, false);
}

Stream& Stream::operator=(Stream&& other) noexcept {
  std::swap(handle_, other.handle_), std::swap(device_, other.device_), std::swap(is_own_, other.is_own_);
  return *this;
}

Stream::~Stream() {
  if (!is_own_) return;
  const Result<DeviceGuard> guard = DeviceGuard::enter(device_);
  (void)cuda_status("cudaStreamDestroy", cudaStreamDestroy(stream_of(handle_)));
}

Status Stream::wait(const Event& event) const {
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device_));
  return cuda_status("cudaStreamWaitEvent", cudaStreamWaitEvent(stream_of(handle_), event_of(event.handle()), 0));
}

Result<bool> Stream::is_done() const {
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device_));
  return answer("cudaStreamQuery", cudaStreamQuery(stream_of(handle_)));
}

Status Stream::synchronize() const {
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device_));
  return cuda_status("cudaStreamSynchronize", cudaStreamSynchronize(stream_of(handle_)));
}

Result<bool> Stream::is_capturing() const {
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device_));
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  RESHARD_TRY(cuda_status("cudaStreamIsCapturing", cudaStreamIsCapturing(stream_of(handle_), &status)));
  if (status != cudaStreamCaptureStatusInvalidated) return status == cudaStreamCaptureStatusActive;
  return Status{RESHARD_ERR_INVALID_STATE, "the stream's capture has been invalidated; end it and capture again"};
}

Result<Event> Event::create(std::int32_t device) {
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device));
  cudaEvent_t handle = nullptr;
  RESHARD_TRY(cuda_status(fmt::format("cudaEventCreateWithFlags on device {}", device),
                          cudaEventCreateWithFlags(&handle, cudaEventDisableTiming)));
  return Event(handle, device);
}

Event& Event::operator=(Event&& other) noexcept {
  std::swap(handle_, other.handle_), std::swap(device_, other.device_);
  return *this;
}

Event::~Event() {
  if (handle_ == nullptr) return;
  const Result<DeviceGuard> guard = DeviceGuard::enter(device_);
  (void)cuda_status("cudaEventDestroy", cudaEventDestroy(event_of(handle_)));
}

Status Event::record(const Stream& stream) {
  if (stream.device() != device_) {
    return invalid_argument(
        fmt::format("an event of device {} cannot be recorded in a stream of device {}", device_, stream.device()));
  }
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device_));
  return cuda_status("cudaEventRecord", cudaEventRecord(event_of(handle_), stream_of(stream.handle())));
}

Result<bool> Event::is_done() const {
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device_));
  return answer("cudaEventQuery", cudaEventQuery(event_of(handle_)));
}

Status Event::synchronize() const {
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device_));
  return cuda_status("cudaEventSynchronize", cudaEventSynchronize(event_of(handle_)));
}

}  // namespace reshard
