// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/device_copies.h"

#include "kernels/cuda/launch.h"
#include "src/device/device.h"
#include "src/device/profile_range.h"

namespace reshard {

Result<DeviceCopies> DeviceCopies::create(std::int32_t device) {
  RESHARD_TRY(check_device(device));
  RESHARD_TRY(const DeviceInfo info, device_info(device));
  return DeviceCopies(device, info.num_sms * kCopyBlocksPerMultiprocessor);
}

CopyBatch DeviceCopies::add(const CopyList& copies) {
  return keep(table_.add(copies));
}

CopyBatch DeviceCopies::add(const ScaleList& scales) {
  table_.begin_batch();
  table_.append(scales);
  return keep(table_.end_batch());
}

CopyBatch DeviceCopies::keep(const TileRange& batch) {
  if (batch.empty()) return CopyBatch::kNone;
  batches_.push_back(batch);
  return static_cast<CopyBatch>(batches_.size() - 1);
}

/// Through pinned memory, which the device reads at the speed of the bus. It stays until the copy is known to be done:
/// where that fails, as long as this object.
Status DeviceCopies::upload(const Stream& stream) {
  const auto size_bytes = static_cast<std::size_t>(table_.num_bytes());
  if (size_bytes == 0) return {};
  RESHARD_TRY(image_, PinnedMemory::allocate(device_, size_bytes));
  table_.write(static_cast<std::byte*>(image_.data()));
  RESHARD_TRY(uploaded_, DeviceMemory::allocate(device_, size_bytes));
  RESHARD_TRY(copy_and_wait(uploaded_.data(), image_.data(), size_bytes, stream));
  on_device_ = table_.at(uploaded_.data());
  table_ = {};
  image_ = {};
  return {};
}

Status DeviceCopies::launch(CopyBatch batch, const Stream& stream) const {
  const ProfileRange range("copies");
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device_));
  return launch_copies(on_device_, batches_[static_cast<std::size_t>(batch)], num_blocks_, stream.handle());
}

}  // namespace reshard
