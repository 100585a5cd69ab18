// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "src/device/memory.h"
#include "src/exec/bind.h"
#include "src/reload/layers.h"

namespace reshard {

/// Memory of a PeerMemory that frees itself, with the transport's turn.
class ReloadScratch {
 public:
  ReloadScratch() = default;
  ~ReloadScratch();
  ReloadScratch(const ReloadScratch&) = delete;
  ReloadScratch& operator=(const ReloadScratch&) = delete;

  Status allocate(std::int64_t size_bytes, PeerMemory* memory, Transport* transport);
  std::int64_t size_bytes() const { return size_bytes_; }
  std::byte* data() const { return static_cast<std::byte*>(data_ != nullptr ? data_ : device_.data()); }

 private:
  std::int64_t size_bytes_ = 0;
  PeerMemory* memory_ = nullptr;
  Transport* transport_ = nullptr;
  void* data_ = nullptr;  // of the host
  DeviceMemory device_;
};

/// A server's new weights, layer by layer: a binding whose groups land in scratch, and the memory where they stay.
///
/// In a run, layers come in the rank's order. Each is handed out by next(), and is with the caller until he commits it;
/// scratch of the next one that lies there is free from then on. Only commit() writes where layers stay, but for those
/// that land there directly.
class Reload {
 public:
  /// What a layer is at the end of a run, or in it.
  enum class State : std::uint8_t {
    kUnchanged,  ///< as it was before the run
    kComplete,
    kTorn,  ///< it lands directly, and a run that failed may have written some of it
  };

  /// Where it works. The copier is of the memory of the buffers.
  struct Place {
    Transport* transport = nullptr;
    PeerMemory* memory = nullptr;
    MakeCopier make_copier;
  };

  /// Local: all but the binding. Finds the layers, takes the scratch and makes ready what commits. Errors: those of
  /// map_layers(), RESHARD_ERR_OUT_OF_MEMORY, those of the copier.
  Status prepare(const Place& place, std::shared_ptr<const Plan> plan, ReloadMemory stable);

  /// The same for a reload that is to take the place of `older`, with another plan of the same ranks: in its scratch if
  /// that is large enough. `stable` is that of the older one but for what is given here; no outputs: those that it has.
  /// The older one is as it was. Errors: also RESHARD_ERR_INVALID_STATE in a run of it, RESHARD_ERR_INVALID_ARGUMENT
  /// for a buffer or an output that is not given and does not fit the plan.
  Status follow(const Reload& older, std::shared_ptr<const Plan> plan, ReloadMemory stable);

  /// The destination buffers to bind, some of which share memory (BindOptions::holds_groups).
  const std::vector<BoundBuffer>& landing() const { return landing_; }

  /// The binding of these.
  void attach(Binding* binding) { binding_ = binding; }

  const Plan& plan() const { return *plan_; }
  const ReloadMemory& stable() const { return stable_; }
  const std::vector<Layer>& layers() const { return map_.layers; }
  std::int64_t scratch_bytes() const { return scratch_->size_bytes(); }

  /// All as Driver::start.
  Status start(void* stream);

  /// Waits for the next layer that this rank has anything of; null when all have been handed out.
  /// RESHARD_ERR_INVALID_STATE when none can come before the caller commits one; else as Driver::wait_group.
  Result<const Layer*> next(const Deadline& deadline);

  /// Whether next() would hand a layer out without waiting; moves the run on a little.
  Result<bool> poll();

  /// Copies a layer that was handed out to where it stays, after the work that the caller has queued on `stream`, and
  /// gives its scratch to a later one. Allowed after the run has failed, too: the layer had landed.
  Status commit(std::int32_t group, void* stream);

  /// The caller cannot go on: the run is given up, and finish() tells all ranks why.
  Status give_up(Status why);

  /// Collective. Hands out and commits what is left and needs no caller, ends the run, and votes: OK if every layer of
  /// every rank is complete. To be called after every start(), whatever failed.
  Status finish(std::int64_t timeout_us);

  State state(std::int32_t group) const;

 private:
  enum class Step : std::uint8_t { kWaiting, kHandedOut, kCommitted };

  Status take_scratch(const Reload* older);
  void place_buffers(const Reload* older);
  Status prepare_commits();
  Status keep_outputs(const Reload& older);
  State state_of_older(std::int32_t group) const;
  std::int32_t position_of(std::int32_t group) const;
  Status check_running() const;
  Status fail(Status status);  ///< returns it
  bool is_passed_over(std::size_t position) const;
  void release();
  Status copy_layer(std::size_t position, void* stream);
  Status complete_rest(const Deadline& deadline);
  std::int64_t name_of(const Layer& layer) const { return at(plan_->groups, layer.group); }

  std::shared_ptr<const Plan> plan_;
  Place place_;
  std::int32_t rank_ = 0;
  ReloadMemory stable_;
  LayerMap map_;
  std::shared_ptr<ReloadScratch> scratch_;  // with the reload that this one follows
  std::vector<BoundBuffer> landing_;
  std::map<std::int64_t, State> older_states_;  // by the caller's number of a group: told until the first run
  Binding* binding_ = nullptr;
  std::unique_ptr<Copier> copier_;
  std::vector<CopyBatch> commits_;  // by position
  std::vector<Step> steps_;         // by position, of the last run
  std::size_t next_ = 0;            // position that is handed out next
  std::size_t num_released_ = 0;    // positions from the first on that are committed
  bool is_running_ = false;
  Status failure_;
};

}  // namespace reshard
