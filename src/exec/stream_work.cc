// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/stream_work.h"

#include <algorithm>
#include <utility>

#include "src/device/device.h"
#include "src/device/profile_range.h"
#include "src/exec/schedule_copies.h"

namespace reshard {
namespace {

/// By lane and index of a direction of the schedule.
template <typename T>
std::array<std::vector<T>, 3> by_step(const Lanes& lanes) {
  std::array<std::vector<T>, 3> values;
  for (std::size_t lane = 0; lane < lanes.size(); ++lane) values[lane].resize(lanes[lane].steps.size());
  return values;
}

}  // namespace

Result<std::shared_ptr<StreamWork>> StreamWork::create(const Plan& plan, StageSchedule stages, StreamProgram program,
                                                       const ConversionCopies& conversions, const RankMemory& memory,
                                                       std::int32_t device) {
  RESHARD_TRY(DeviceCopies copies, DeviceCopies::create(device));
  std::shared_ptr<StreamWork> work(new StreamWork(std::move(stages), std::move(program), std::move(copies)));
  RESHARD_TRY(work->make_streams(device));
  RESHARD_TRY(work->bind(plan, conversions, memory));
  return work;
}

/// Memory is given back at once, whatever a launch still does with it.
StreamWork::~StreamWork() {
  comm.reset();
  for (const std::optional<Stream>& stream : streams_) {
    if (stream.has_value()) static_cast<void>(stream->synchronize().ok());
  }
}

Status StreamWork::make_streams(std::int32_t device) {
  for (std::size_t i = 0; i < kNumStreams; ++i) {
    if (!program_.list.uses(static_cast<StreamKind>(i))) continue;
    RESHARD_TRY(streams_[i], Stream::create(device));
  }
  events_.reserve(static_cast<std::size_t>(program_.list.num_events()));
  for (std::int32_t i = 0; i < program_.list.num_events(); ++i) {
    RESHARD_TRY(Event event, Event::create(device));
    events_.push_back(std::move(event));
  }
  RESHARD_TRY(gate_, Event::create(device));
  return {};
}

Status StreamWork::bind(const Plan& plan, const ConversionCopies& conversions, const RankMemory& memory) {
  const Schedule& schedule = stages_.schedule;
  RESHARD_TRY(slots_, DeviceMemory::allocate(device(), static_cast<std::size_t>(stages_.staging_bytes())));
  auto* const slots = static_cast<std::byte*>(slots_.data());
  std::vector<CopyList> pulls(schedule.pulls.size());
  auto out_lists = by_step<CopyList>(schedule.out);
  auto in_lists = by_step<CopyList>(schedule.in);
  auto out_data = by_step<std::byte*>(schedule.out);
  auto in_data = by_step<std::byte*>(schedule.in);
  local_.resize(schedule.local.size(), CopyBatch::kNone);
  CopyTaker taker;
  taker.local = [&](std::size_t i, const CopyList& copies) { local_[i] = copies_.add(copies); };
  taker.pull = [&](std::size_t i, CopyList copies) { pulls[i] = std::move(copies); };
  taker.window = [&](WindowCopies window) {
    at(window.is_out ? out_data : in_data, window.id.lane)[window.id.index] = window.data;
    at(window.is_out ? out_lists : in_lists, window.id.lane)[window.id.index] = std::move(window.copies);
  };
  taker.slot = [&](bool is_out, StepId id) { return slots + stages_.slot_of(is_out, id) * stages_.slot_bytes; };
  make_copies(plan, schedule, memory, taker);
  for (const StreamProgram::Pull& pull : program_.pulls) {
    copies_.begin_batch();
    for (std::int32_t i = pull.begin; i < pull.end; ++i) copies_.append(at(pulls, i));
    pulls_.push_back(copies_.end_batch());
  }
  add_batches(out_lists, in_lists);
  add_operations(out_data, in_data);
  add_conversions(conversions);
  return copies_.upload(stream(StreamKind::kControl));
}

CopyBatch StreamWork::add_batch(std::span<const StepId> steps, const std::array<std::vector<CopyList>, 3>& lists) {
  copies_.begin_batch();
  for (const StepId id : steps) copies_.append(at(lists, id.lane)[id.index]);
  return copies_.end_batch();
}

void StreamWork::add_batches(const std::array<std::vector<CopyList>, 3>& out,
                             const std::array<std::vector<CopyList>, 3>& in) {
  for (std::size_t stage = 0; stage < stages_.stages.size(); ++stage) {
    packs_.push_back(add_batch(stages_.packs(stage), out));
    unpacks_.push_back(add_batch(stages_.unpacks(stage), in));
    reads_.push_back(add_batch(stages_.reads(stage), in));
  }
}

/// Within a stage in the plan's one order, so that the messages between two ranks meet in the same order at both.
void StreamWork::add_operations(const std::array<std::vector<std::byte*>, 3>& out,
                                const std::array<std::vector<std::byte*>, 3>& in) {
  for (std::size_t stage = 0; stage < stages_.stages.size(); ++stage) {
    for (const StepId id : stages_.sends(stage)) {
      const WindowStep& step = stages_.out(id);
      operations_.push_back({NcclOperation::Kind::kSend, step.peer, at(out, id.lane)[id.index], step.size_bytes});
    }
    for (const StepId id : stages_.receives(stage)) {
      const WindowStep& step = stages_.in(id);
      operations_.push_back({NcclOperation::Kind::kReceive, step.peer, at(in, id.lane)[id.index], step.size_bytes});
    }
    operations_end_.push_back(operations_.size());
  }
}

void StreamWork::add_conversions(const ConversionCopies& conversions) {
  scales_before_ = copies_.add(conversions.before);
  for (const ConversionCopies::Finish& finish : conversions.finishes) {
    const CopyBatch scales = copies_.add(finish.scales);
    finishes_.push_back({finish.position, scales, copies_.add(finish.copies)});
  }
}

std::span<const NcclOperation> StreamWork::operations(std::size_t stage) const {
  const std::size_t begin = stage == 0 ? 0 : operations_end_[stage - 1];
  return {operations_.data() + begin, operations_end_[stage] - begin};
}

Status StreamWork::enqueue(const Stream& callers, bool joins, const Deadline& deadline) {
  const ProfileRange range("enqueue");
  // Held round all calls, which makes each of them cheap.
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(device()));
  RESHARD_TRY(gate_->record(callers));
  RESHARD_TRY(stream(StreamKind::kControl).wait(*gate_));
  for (const StreamCommand& command : program_.list.commands()) {
    RESHARD_TRY(run(command, deadline));
    if (command.event >= 0) RESHARD_TRY(at(events_, command.event).record(stream(command.stream)));
  }
  return joins ? callers.wait(end()) : Status();
}

Status StreamWork::launch(CopyBatch batch, const Stream& stream) const {
  return batch == CopyBatch::kNone ? Status() : copies_.launch(batch, stream);
}

Status StreamWork::run(const StreamCommand& command, const Deadline& deadline) {
  const Stream& on = stream(command.stream);
  const auto index = static_cast<std::size_t>(command.index);
  switch (command.action) {
    case StreamAction::kBegin:
      return signals->begin(on);
    case StreamAction::kScales:
      return launch(scales_before_, on);
    case StreamAction::kWait:
      return on.wait(event(command.index));
    case StreamAction::kLendSource:
      return signals->lend_source(on);
    case StreamAction::kPack:
      return launch(packs_[index], on);
    case StreamAction::kExchange:
      return comm->exchange(operations(index), on, deadline);
    case StreamAction::kUnpack:
      return launch(unpacks_[index], on);
    case StreamAction::kLend:
      return signals->lend(index, on);
    case StreamAction::kRead:
      return run_read(index, on);
    case StreamAction::kLocal:
      return launch(local_[index], on);
    case StreamAction::kPull:
      return run_pull(index, on);
    case StreamAction::kConvert:
      return convert(index, on);
    case StreamAction::kAwaitReaders:
      return signals->await_readers(index, on);
    case StreamAction::kGroup:
      return {};
    case StreamAction::kEnd:
      return signals->end(on);
  }
  return {};
}

Status StreamWork::run_read(std::size_t stage, const Stream& stream) {
  RESHARD_TRY(signals->await_lenders(stage, stream));
  RESHARD_TRY(launch(reads_[stage], stream));
  return signals->end_read(stage, stream);
}

Status StreamWork::run_pull(std::size_t index, const Stream& stream) {
  RESHARD_TRY(signals->await_sources(index, stream));
  RESHARD_TRY(launch(pulls_[index], stream));
  return signals->end_pull(index, stream);
}

/// In one stream, so that the scales are there when elements are converted by them.
Status StreamWork::convert(std::size_t index, const Stream& stream) const {
  RESHARD_TRY(launch(finishes_[index].scales, stream));
  return launch(finishes_[index].copies, stream);
}

bool StreamWork::is_idle() const {
  return std::all_of(streams_.begin(), streams_.end(), [](const std::optional<Stream>& stream) {
    if (!stream.has_value()) return true;
    const Result<bool> is_done = stream->is_done();
    return !is_done.ok() || *is_done;
  });
}

Status StreamWork::check_device() const {
  const Result<bool> is_done = stream(StreamKind::kControl).is_done();
  return is_done.ok() ? Status() : is_done.status();
}

}  // namespace reshard
