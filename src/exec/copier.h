// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Who makes the copies of a run: packs and unpacks of messages, reads of peers' memory, moves within the rank. All of
// them go through this interface, so that the drivers know no difference between memory of the host, where the calling
// thread copies piece by piece, and memory of a device, where a batch is one launch whose end is polled. Nothing else
// in this room touches a byte of a tensor, but messages that go straight from or to one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "kernels/copy_list.h"
#include "kernels/scale_list.h"
#include "src/base/status.h"
#include "src/device/memory_space.h"
#include "src/transport/deadline.h"

namespace reshard {

/// Copies that are made together, as the copier that they were added to numbers them. kNone: nothing to copy.
enum class CopyBatch : std::int32_t { kNone = -1 };

/// A batch in a run. Made anew for every time that a batch is run; the owner calls Copier::advance() until it is done.
struct CopyJob {
  CopyBatch batch = CopyBatch::kNone;
  bool is_done = false;
  CopyList::Position position;  ///< how far, where the thread itself copies
  ScaleList::Position scales;   ///< the same, of a batch of scales
  std::int32_t ticket = -1;     ///< what is asked for the end, where a device copies; -1: not started

  CopyJob() = default;
  explicit CopyJob(CopyBatch given) : batch(given), is_done(given == CopyBatch::kNone) {}
};

/// Makes the copies of one bound program. Used by one thread at a time. Everything that can fail for want of memory, or
/// takes long, is done while the binding is made: a run allocates nothing.
class Copier {
 public:
  virtual ~Copier() = default;

  // ---- while the binding is made

  /// Where the caller's buffers are, and the staging: what a messenger is told of the pointers it is given.
  virtual MemorySpace tensor_space() const = 0;
  virtual MemorySpace staging_space() const = 0;

  /// Before allocate_staging(), which then takes the staging of `older`, if it is of the same kind and large enough.
  /// Both may then live, but only one of them may have copies or messages under way.
  virtual void share_staging(const Copier& /*older*/) {}

  /// The memory of all staging slots, once; lives as long as the copier. RESHARD_ERR_OUT_OF_MEMORY.
  virtual Result<std::byte*> allocate_staging(std::size_t size_bytes) = 0;

  /// What allocate_staging() allocated or took: at least what it was asked for.
  virtual std::size_t staging_bytes() const = 0;

  /// Takes a list whose addresses are final. An empty list is CopyBatch::kNone. `hint`: see StoreHint; no promise.
  virtual CopyBatch add(CopyList copies, StoreHint hint) = 0;

  /// The same list as a batch of `older`, whose addresses hold here, too: kNone where it has none. Nothing where lists
  /// cannot be taken over; then the list is made and added.
  virtual std::optional<CopyBatch> take(const Copier& /*older*/, CopyBatch /*batch*/) { return std::nullopt; }

  /// The same of scales that are computed. A batch of copies that use them is started when they are done.
  virtual CopyBatch add(ScaleList scales) = 0;

  /// After the last add(): makes ready what runs need (a device: uploads the table of all batches).
  virtual Status prepare() = 0;

  // ---- in a run

  /// Begins a run whose caller has queued work on `stream` that still writes the sources, or reads the destinations.
  /// Null: there is no such work.
  virtual Status begin(void* stream) = 0;

  /// Whether that work is done. Before it is, nobody may read or write the caller's memory: no message from or to it is
  /// posted, no batch is started, and no peer is told that it may read. Polled.
  virtual Result<bool> is_open() = 0;

  /// Starts the batch or moves it on; sets job->is_done at its end, when other threads, devices and the messenger see
  /// all that was written. Sets *moved also for a batch that is merely under way: its end wakes nobody, so the thread
  /// should not sleep.
  virtual Status advance(CopyJob* job, bool* moved) = 0;

  /// Jobs of one kind (packs of a lane, unpacks, ...) that are worth having under way at once.
  virtual std::size_t most_jobs() const = 0;

  /// A cudaEvent_t that is complete, so that other streams may be told to wait for what the host knows to be done;
  /// null on the host.
  virtual void* completed_event() const = 0;

  /// After a run was given up: waits within `budget` for what was started, and returns whether none of it touches any
  /// memory any more. If not, the copier and all the memory must stay until it says so.
  virtual bool drain(const Deadline& budget) = 0;
};

/// Copies with the calling thread.
class HostCopier final : public Copier {
 public:
  /// Copies are run in pieces of this size, so that messages advance in between.
  static constexpr std::int64_t kPieceBytes = std::int64_t{1} << 20;

  MemorySpace tensor_space() const override { return MemorySpace::kHost; }
  MemorySpace staging_space() const override { return MemorySpace::kHost; }
  void share_staging(const Copier& older) override;
  std::size_t staging_bytes() const override { return staging_bytes_; }
  Result<std::byte*> allocate_staging(std::size_t size_bytes) override;
  CopyBatch add(CopyList copies, StoreHint hint) override;
  std::optional<CopyBatch> take(const Copier& older, CopyBatch batch) override;
  CopyBatch add(ScaleList scales) override;
  Status prepare() override { return {}; }

  // The caller of a function of the host has done what he had to before he calls; there are no streams.
  Status begin(void* stream) override;
  Result<bool> is_open() override { return true; }
  Status advance(CopyJob* job, bool* moved) override;
  std::size_t most_jobs() const override { return 1; }  // more would only take turns
  void* completed_event() const override { return nullptr; }
  bool drain(const Deadline&) override { return true; }

  /// For tests and measurements.
  const CopyList& copies(CopyBatch batch) const { return of(batch).copies; }
  std::size_t num_batches() const { return batches_.size(); }

 private:
  struct Batch {
    CopyList copies;
    StoreHint hint = StoreHint::kAuto;
    ScaleList scales = {};  // instead of copies
  };
  const Batch& of(CopyBatch batch) const { return batches_[static_cast<std::size_t>(batch)]; }

  std::shared_ptr<std::byte[]> staging_;
  std::size_t staging_bytes_ = 0;
  // Tens of thousands: a vector that grows would leave as much memory again behind, which the heap then keeps.
  std::deque<Batch> batches_;
};

}  // namespace reshard
