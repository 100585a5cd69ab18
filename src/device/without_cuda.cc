// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The whole room in a build without the CUDA toolkit: nothing can be made, so what needs an object is never reached.
#include "src/device/device.h"
#include "src/device/flags.h"
#include "src/device/memory.h"
#include "src/device/memory_space.h"
#include "src/device/peer_memory.h"
#include "src/device/profile_range.h"
#include "src/device/stream.h"

namespace reshard {

class DescriptorOffers {};

namespace {

Status no_cuda() {
  return {
      RESHARD_ERR_NOT_SUPPORTED,
      "this build of reshard has no CUDA: device memory needs a library that was built with the CUDA toolkit 13.0 or "
      "newer (nvcc on the path or CUDAToolkit_ROOT set, and RESHARD_CUDA=ON)"};
}

}  // namespace

bool built_with_cuda() {
  return false;
}
Result<std::int32_t> num_devices() {
  return no_cuda();
}
Result<DeviceInfo> device_info(std::int32_t) {
  return no_cuda();
}
Status check_device(std::int32_t) {
  return no_cuda();
}
Result<PointerInfo> pointer_info(const void*) {
  return PointerInfo{};
}

Result<DeviceGuard> DeviceGuard::enter(std::int32_t) {
  return no_cuda();
}
DeviceGuard::DeviceGuard(DeviceGuard&& other) noexcept
    : callers_context_(other.callers_context_), is_changed_(other.is_changed_) {}
DeviceGuard::~DeviceGuard() {}

Result<Stream> Stream::create(std::int32_t) {
  return no_cuda();
}
Result<Stream> Stream::borrow(void*, std::int32_t) {
  return no_cuda();
}
Stream& Stream::operator=(Stream&&) noexcept {
  return *this;
}
Stream::~Stream() {}
Status Stream::wait(const Event&) const {
  return no_cuda();
}
Result<bool> Stream::is_done() const {
  return no_cuda();
}
Status Stream::synchronize() const {
  return no_cuda();
}
Result<bool> Stream::is_capturing() const {
  return no_cuda();
}

Result<Event> Event::create(std::int32_t) {
  return no_cuda();
}
Event& Event::operator=(Event&&) noexcept {
  return *this;
}
Event::~Event() {}
Status Event::record(const Stream&) {
  return no_cuda();
}
Result<bool> Event::is_done() const {
  return no_cuda();
}
Status Event::synchronize() const {
  return no_cuda();
}

Result<DeviceMemory> DeviceMemory::allocate(std::int32_t, std::size_t, Export) {
  return no_cuda();
}
DeviceMemory::~DeviceMemory() {}
Result<PinnedMemory> PinnedMemory::allocate(std::int32_t, std::size_t) {
  return no_cuda();
}
PinnedMemory::~PinnedMemory() {}
Status copy_async(void*, const void*, std::size_t, const Stream&) {
  return no_cuda();
}
Status copy_and_wait(void*, const void*, std::size_t, const Stream&) {
  return no_cuda();
}
Status fill_async(void*, std::uint8_t, std::size_t, const Stream&) {
  return no_cuda();
}

Result<std::unique_ptr<DevicePeerMemory>> DevicePeerMemory::create(std::int32_t) {
  return no_cuda();
}
DevicePeerMemory::~DevicePeerMemory() = default;
Result<std::vector<std::byte>> DevicePeerMemory::export_memory(const void*, std::size_t) {
  return no_cuda();
}
void DevicePeerMemory::withdraw(const std::vector<std::byte>&) {}
Result<void*> DevicePeerMemory::map(const std::vector<std::byte>&) {
  return no_cuda();
}
Status DevicePeerMemory::unmap(const std::vector<std::byte>&, void*) {
  return no_cuda();
}

Result<ReadinessFlags> ReadinessFlags::create(std::int32_t, std::int64_t) {
  return no_cuda();
}

ProfileRange::ProfileRange(const char*) {}
ProfileRange::~ProfileRange() {}

}  // namespace reshard
