// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <functional>
#include <random>

#include "src/exec/copier.h"

namespace reshard::testing {

/// Stands for a copier of a device, on memory of the host: a batch is copied at once or some time after it was asked
/// for, its end shows later still, several are under way together and end in any order, and the caller's memory may be
/// touched only some time after a run began.
class LateCopier final : public Copier {
 public:
  explicit LateCopier(std::uint64_t seed) : random_(seed) {}

  /// What begin() takes as a stream: the work that the caller has queued, done when the copier opens.
  using Work = std::function<void()>;

  MemorySpace tensor_space() const override { return MemorySpace::kHost; }
  MemorySpace staging_space() const override { return MemorySpace::kHost; }
  std::size_t staging_bytes() const override { return host_.staging_bytes(); }
  Result<std::byte*> allocate_staging(std::size_t size_bytes) override { return host_.allocate_staging(size_bytes); }
  CopyBatch add(CopyList copies, StoreHint hint) override { return host_.add(std::move(copies), hint); }
  CopyBatch add(ScaleList scales) override { return host_.add(std::move(scales)); }
  Status prepare() override { return {}; }
  Status begin(void* stream) override;
  Result<bool> is_open() override;
  Status advance(CopyJob* job, bool* moved) override;
  std::size_t most_jobs() const override { return 3; }
  void* completed_event() const override { return nullptr; }
  bool drain(const Deadline& budget) override;

 private:
  struct Launch {
    bool is_used = false;
    bool is_copied = false;
    CopyBatch batch = CopyBatch::kNone;
  };
  bool coin() { return (random_() >> 13U) % 3 == 0; }
  void copy(Launch* launch);

  HostCopier host_;
  std::mt19937_64 random_;
  Work* work_ = nullptr;
  bool is_open_ = true;
  std::array<Launch, 16> launches_;  // more than are ever under way: packs of two lanes, unpacks, pulls, local copies
};

}  // namespace reshard::testing
