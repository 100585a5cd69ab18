// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "src/device/memory.h"
#include "src/device/stream.h"
#include "src/exec/bound_schedule.h"
#include "src/exec/device_copies.h"
#include "src/exec/quantise.h"
#include "src/exec/stages.h"
#include "src/exec/stream_program.h"
#include "src/exec/stream_signals.h"
#include "src/transport/nccl/comm.h"

namespace reshard {

/// The stages of a rank with memory: what of a run each command of the program launches. Addresses are resolved, copies
/// are on the device, streams and events are made: a run allocates and uploads nothing.
class StreamWork {
 public:
  /// Allocates and uploads. RESHARD_ERR_OUT_OF_MEMORY and what src/device/device.h says.
  static Result<std::shared_ptr<StreamWork>> create(const Plan& plan, StageSchedule stages, StreamProgram program,
                                                    const ConversionCopies& conversions, const RankMemory& memory,
                                                    std::int32_t device);
  /// @pre is_idle(), or nothing else that this object's streams work on is in use any more
  ~StreamWork();
  StreamWork(const StreamWork&) = delete;
  StreamWork& operator=(const StreamWork&) = delete;

  const StageSchedule& stages() const { return stages_; }
  const StreamProgram& program() const { return program_; }
  std::int32_t device() const { return copies_.device(); }

  std::shared_ptr<StreamSignals> signals;  ///< set while the binding is made
  std::shared_ptr<NcclComm> comm;          ///< may be that of the binding before, which is not in a run

  /// Queues the whole run behind what the caller's stream holds. `joins`: and has the stream wait for its end, as it
  /// must where it captures. `deadline` is for connections that NCCL has not made yet.
  /// An error leaves a part of the run queued.
  Status enqueue(const Stream& callers, bool joins, const Deadline& deadline);

  const Event& event(std::int32_t index) const { return events_[static_cast<std::size_t>(index)]; }
  const Event& end() const { return event(program_.end_event); }

  /// A stream for what else has to be done in order with the runs.
  const Stream& stream(StreamKind kind) const { return *streams_[static_cast<std::size_t>(kind)]; }

  /// Whether all that was ever queued is done; also where the device has failed, since then nothing runs any more.
  bool is_idle() const;
  /// OK, or what the device reports.
  Status check_device() const;

 private:
  StreamWork(StageSchedule stages, StreamProgram program, DeviceCopies copies)
      : stages_(std::move(stages)), program_(std::move(program)), copies_(std::move(copies)) {}

  Status make_streams(std::int32_t device);
  Status bind(const Plan& plan, const ConversionCopies& conversions, const RankMemory& memory);
  void add_conversions(const ConversionCopies& conversions);
  void add_batches(const std::array<std::vector<CopyList>, 3>& out, const std::array<std::vector<CopyList>, 3>& in);
  CopyBatch add_batch(std::span<const StepId> steps, const std::array<std::vector<CopyList>, 3>& lists);
  void add_operations(const std::array<std::vector<std::byte*>, 3>& out,
                      const std::array<std::vector<std::byte*>, 3>& in);
  Status run(const StreamCommand& command, const Deadline& deadline);
  Status run_read(std::size_t stage, const Stream& stream);
  Status run_pull(std::size_t index, const Stream& stream);
  Status convert(std::size_t index, const Stream& stream) const;
  Status launch(CopyBatch batch, const Stream& stream) const;
  std::span<const NcclOperation> operations(std::size_t stage) const;

  StageSchedule stages_;
  StreamProgram program_;
  DeviceCopies copies_;
  DeviceMemory slots_;
  std::vector<CopyBatch> packs_;    // by stage
  std::vector<CopyBatch> unpacks_;  // by stage
  std::vector<CopyBatch> reads_;    // by stage
  std::vector<CopyBatch> local_;    // as Schedule::local
  std::vector<CopyBatch> pulls_;    // as StreamProgram::pulls
  CopyBatch scales_before_ = CopyBatch::kNone;
  std::vector<BoundFinish> finishes_;  // as Schedule::finishes
  std::vector<NcclOperation> operations_;
  std::vector<std::size_t> operations_end_;  // by stage
  std::optional<Event> gate_;                // behind what the caller's stream held when the run was queued
  std::vector<Event> events_;
  std::array<std::optional<Stream>, kNumStreams> streams_;  // those that the program uses
};

}  // namespace reshard
