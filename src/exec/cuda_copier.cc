// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/cuda_copier.h"

#include <thread>
#include <utility>

#include "kernels/cuda/launch.h"
#include "src/device/device.h"
#include "src/device/profile_range.h"

namespace reshard {

Result<std::unique_ptr<CudaCopier>> CudaCopier::create(std::int32_t device, MemorySpace staging) {
  RESHARD_TRY(check_device(device));
  RESHARD_TRY(const DeviceInfo info, device_info(device));
  RESHARD_TRY(Event gate, Event::create(device));
  std::unique_ptr<CudaCopier> copier(
      new CudaCopier(device, staging, info.num_sms * kCopyBlocksPerMultiprocessor, std::move(gate)));
  copier->tickets_.reserve(kNumTickets);
  for (std::size_t i = 0; i < kNumTickets; ++i) {
    RESHARD_TRY(Stream stream, Stream::create(device));
    RESHARD_TRY(Event end, Event::create(device));
    copier->tickets_.push_back({std::move(stream), std::move(end), false});
  }
  return copier;
}

/// Memory is given back at once, whatever a launch still does with it.
CudaCopier::~CudaCopier() {
  for (const Ticket& ticket : tickets_) {
    if (ticket.is_busy) static_cast<void>(ticket.stream.synchronize().ok());
  }
}

Result<std::byte*> CudaCopier::allocate_staging(std::size_t size_bytes) {
  if (staging_space_ == MemorySpace::kDevice) {
    RESHARD_TRY(device_staging_, DeviceMemory::allocate(device_, size_bytes));
    return static_cast<std::byte*>(device_staging_.data());
  }
  RESHARD_TRY(pinned_staging_, PinnedMemory::allocate(device_, size_bytes));
  return static_cast<std::byte*>(pinned_staging_.data());
}

CopyBatch CudaCopier::add(CopyList copies, StoreHint /*hint: kernels leave the cache to the device*/) {
  const TileRange batch = table_.add(copies);
  if (batch.empty()) return CopyBatch::kNone;
  batches_.push_back(batch);
  return static_cast<CopyBatch>(batches_.size() - 1);
}

/// Through pinned memory, which the device reads at the speed of the bus. It stays until the copy is known to be done:
/// where that fails, as long as the copier.
Status CudaCopier::prepare() {
  const auto size_bytes = static_cast<std::size_t>(table_.num_bytes());
  if (size_bytes == 0) return {};
  RESHARD_TRY(table_image_, PinnedMemory::allocate(device_, size_bytes));
  table_.write(static_cast<std::byte*>(table_image_.data()));
  RESHARD_TRY(uploaded_, DeviceMemory::allocate(device_, size_bytes));
  RESHARD_TRY(copy_and_wait(uploaded_.data(), table_image_.data(), size_bytes, tickets_.front().stream));
  on_device_ = table_.at(uploaded_.data());
  table_ = {};
  table_image_ = {};
  return {};
}

Status CudaCopier::begin(void* stream) {
  RESHARD_TRY(const Stream callers, Stream::borrow(stream, device_));
  return gate_.record(callers);
}

Result<bool> CudaCopier::is_open() {
  return gate_.is_done();
}

Status CudaCopier::start(CopyJob* job) {
  for (std::size_t i = 0; i < tickets_.size(); ++i) {
    Ticket& ticket = tickets_[i];
    if (ticket.is_busy) continue;
    const ProfileRange range("copies");
    RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device_));
    const TileRange& batch = batches_[static_cast<std::size_t>(job->batch)];
    RESHARD_TRY(launch_copies(on_device_, batch, num_blocks_, ticket.stream.handle()));
    ticket.is_busy = true;
    job->ticket = static_cast<std::int32_t>(i);
    return ticket.end.record(ticket.stream);
  }
  return {};  // all are under way; the next turn asks again
}

Status CudaCopier::advance(CopyJob* job, bool* moved) {
  if (job->is_done) return {};
  *moved = true;
  if (job->ticket < 0) return start(job);
  Ticket& ticket = tickets_[static_cast<std::size_t>(job->ticket)];
  RESHARD_TRY(job->is_done, ticket.end.is_done());
  if (job->is_done) ticket.is_busy = false;
  return {};
}

bool CudaCopier::drain(const Deadline& budget) {
  for (Ticket& ticket : tickets_) {
    while (ticket.is_busy) {
      const Result<bool> is_done = ticket.stream.is_done();
      // A device that reports an error runs nothing any more in this process.
      if (!is_done.ok() || *is_done) {
        ticket.is_busy = false;
      } else if (budget.expired()) {
        return false;
      } else {
        std::this_thread::yield();
      }
    }
  }
  return true;
}

}  // namespace reshard
