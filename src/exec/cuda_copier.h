// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <memory>
#include <vector>

#include "src/device/memory.h"
#include "src/device/stream.h"
#include "src/exec/copier.h"
#include "src/exec/device_copies.h"

namespace reshard {

/// Copies with the multiprocessors of a device: a batch is one launch (DeviceCopies), and its end an event that is
/// polled. The table of all batches is uploaded once, in prepare(); a run uploads and allocates nothing.
class CudaCopier final : public Copier {
 public:
  /// `staging`: kDevice where the messenger moves device memory itself, else kPinned, which it moves as the host's and
  /// kernels write and read over the bus. Errors as src/device/device.h says.
  static Result<std::unique_ptr<CudaCopier>> create(std::int32_t device, MemorySpace staging);
  ~CudaCopier() override;

  MemorySpace tensor_space() const override { return MemorySpace::kDevice; }
  MemorySpace staging_space() const override { return staging_space_; }
  void share_staging(const Copier& older) override;
  std::size_t staging_bytes() const override { return staging_bytes_; }
  Result<std::byte*> allocate_staging(std::size_t size_bytes) override;
  CopyBatch add(CopyList copies, StoreHint hint) override;
  CopyBatch add(ScaleList scales) override { return copies_.add(scales); }
  Status prepare() override;

  Status begin(void* stream) override;
  Result<bool> is_open() override;
  Status advance(CopyJob* job, bool* moved) override;
  std::size_t most_jobs() const override { return kMostJobs; }
  bool drain(const Deadline& budget) override;
  void* completed_event() const override { return gate_.handle(); }

 private:
  // Launches that are worth having queued of one kind: the device is not idle between the end of one and the host's
  // next turn.
  static constexpr std::size_t kMostJobs = 2;
  // Packs of two lanes, unpacks, pulls, moves within the rank, and conversions, kMostJobs of each.
  static constexpr std::size_t kNumTickets = 12;

  /// A stream for one batch at a time, so that batches that are under way at once wait for each other nowhere.
  struct Ticket {
    Stream stream;
    Event end;
    bool is_busy = false;
  };

  CudaCopier(DeviceCopies copies, MemorySpace staging, Event gate)
      : copies_(std::move(copies)), staging_space_(staging), gate_(std::move(gate)) {}
  Status make_staging(std::size_t size_bytes);
  Status start(CopyJob* job);

  DeviceCopies copies_;
  MemorySpace staging_space_;
  Event gate_;  // behind what the caller's stream held when the run began
  std::vector<Ticket> tickets_;
  // Of one of the two kinds; shared with the copier of a binding that this one's follows.
  std::shared_ptr<DeviceMemory> device_staging_;
  std::shared_ptr<PinnedMemory> pinned_staging_;
  std::size_t staging_bytes_ = 0;
};

}  // namespace reshard
