// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/cuda_copier.h"

#include <thread>
#include <utility>

namespace reshard {

Result<std::unique_ptr<CudaCopier>> CudaCopier::create(std::int32_t device, MemorySpace staging) {
  RESHARD_TRY(DeviceCopies copies, DeviceCopies::create(device));
  RESHARD_TRY(Event gate, Event::create(device));
  std::unique_ptr<CudaCopier> copier(new CudaCopier(std::move(copies), staging, std::move(gate)));
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

void CudaCopier::share_staging(const Copier& older) {
  const auto* other = dynamic_cast<const CudaCopier*>(&older);
  if (other == nullptr || other->staging_space_ != staging_space_ || other->copies_.device() != copies_.device())
    return;
  device_staging_ = other->device_staging_;
  pinned_staging_ = other->pinned_staging_;
  staging_bytes_ = other->staging_bytes_;
}

Result<std::byte*> CudaCopier::allocate_staging(std::size_t size_bytes) {
  const bool is_there = device_staging_ != nullptr || pinned_staging_ != nullptr;
  if (!is_there || staging_bytes_ < size_bytes) RESHARD_TRY(make_staging(size_bytes));
  void* const data = device_staging_ != nullptr ? device_staging_->data() : pinned_staging_->data();
  return static_cast<std::byte*>(data);
}

Status CudaCopier::make_staging(std::size_t size_bytes) {
  if (staging_space_ == MemorySpace::kDevice) {
    RESHARD_TRY(DeviceMemory memory, DeviceMemory::allocate(copies_.device(), size_bytes));
    device_staging_ = std::make_shared<DeviceMemory>(std::move(memory));
  } else {
    RESHARD_TRY(PinnedMemory memory, PinnedMemory::allocate(copies_.device(), size_bytes));
    pinned_staging_ = std::make_shared<PinnedMemory>(std::move(memory));
  }
  staging_bytes_ = size_bytes;
  return {};
}

CopyBatch CudaCopier::add(CopyList copies, StoreHint /*hint: kernels leave the cache to the device*/) {
  return copies_.add(copies);
}

Status CudaCopier::prepare() {
  return copies_.upload(tickets_.front().stream);
}

Status CudaCopier::begin(void* stream) {
  RESHARD_TRY(const Stream callers, Stream::borrow(stream, copies_.device()));
  return gate_.record(callers);
}

Result<bool> CudaCopier::is_open() {
  return gate_.is_done();
}

Status CudaCopier::start(CopyJob* job) {
  for (std::size_t i = 0; i < tickets_.size(); ++i) {
    Ticket& ticket = tickets_[i];
    if (ticket.is_busy) continue;
    RESHARD_TRY(copies_.launch(job->batch, ticket.stream));
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
