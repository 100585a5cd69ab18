// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/bind_streams.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "src/base/bytes.h"
#include "src/transport/vote.h"

namespace reshard {
namespace {

using Blobs = std::vector<std::vector<std::byte>>;

/// Of every band of rounds the highest level that any rank needs.
Result<StageLevels> agree_on_levels(Transport* transport, const StageLevels& mine, const Deadline& deadline) {
  std::vector<std::byte> bytes(StageLevels::kNumBands);
  std::memcpy(bytes.data(), mine.of_band.data(), bytes.size());
  RESHARD_TRY(const Blobs all, transport->allgather(bytes, deadline));
  StageLevels levels;
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    StageLevels theirs;
    if (all[rank].size() == bytes.size()) std::memcpy(theirs.of_band.data(), all[rank].data(), bytes.size());
    if (all[rank].size() != bytes.size() || theirs.highest() > kLastLevel) {
      return Status{RESHARD_ERR_TRANSPORT, fmt::format("rank {} sent malformed levels of stages to bind", rank)};
    }
    levels.raise(theirs);
  }
  return levels;
}

/// Whether all ranks could, and then whether all of them have mapped the flags that they need.
Result<bool> agree_on_result(Transport* transport, const Result<bool>& mine, const Deadline& deadline) {
  ByteWriter writer;
  writer.add(std::int64_t{mine.status().code()});
  writer.add(mine.status().message());
  writer.add(std::int64_t{mine.ok() && *mine ? 1 : 0});
  RESHARD_TRY(const Blobs results, transport->allgather(writer.take(), deadline));
  if (!mine.ok()) return Status(mine.status());
  bool is_mapped = true;
  for (std::size_t rank = 0; rank < results.size(); ++rank) {
    ByteReader reader(results[rank]);
    const auto code = static_cast<reshard_status_t>(reader.number());
    const std::string message = reader.text();
    is_mapped = reader.number() == 1 && is_mapped;
    if (!reader.ok()) {
      return Status{RESHARD_ERR_TRANSPORT, fmt::format("rank {} sent a malformed answer to bind", rank)};
    }
    if (code != RESHARD_OK) return Status{code, fmt::format("on rank {}: {}", rank, message)};
  }
  return is_mapped;
}

StageLimits limits_of(const Plan& plan, const NcclComm& comm) {
  StageLimits limits;
  limits.most_operations = static_cast<std::int32_t>(std::min<std::int64_t>(comm.max_group_operations(), INT32_MAX));
  limits.staging_bytes = plan.options.staging_bytes;
  return limits;
}

class StreamBinder {
 public:
  StreamBinder(const StreamBindOptions& options, const Deadline& deadline) : options_(options), deadline_(deadline) {}

  Result<std::shared_ptr<StreamWork>> bind(Status mine) {
    RESHARD_TRY(take_comm(std::move(mine)));
    RESHARD_TRY(bool is_mapped, make_work(options_.links));
    if (!is_mapped) {
      RESHARD_TRY(is_mapped, make_work({}));
    }
    RESHARD_TRY(warm_up());
    work_->comm = std::move(comm_);
    return std::move(work_);
  }

 private:
  /// Collective. Says as NcclComm::create() does whether all ranks have come here well.
  Status take_comm(Status mine) {
    if (options_.comm == nullptr) {
      RESHARD_TRY(comm_, NcclComm::create(options_.transport, options_.choice.device, options_.choice.comm, deadline_,
                                          std::move(mine)));
      return {};
    }
    comm_ = options_.comm;
    return vote(options_.transport, mine, deadline_);
  }

  /// False: some rank could not map what it needs, and nobody has anything of this.
  Result<bool> make_work(const RankLinks& links) {
    const Plan& plan = options_.plan;
    Schedule schedule = build_schedule(plan, options_.transport->rank(), links);
    const StageLimits limits = limits_of(plan, *comm_);
    const StageLevels needed = needed_levels(plan, schedule, limits);
    RESHARD_TRY(const StageLevels levels, agree_on_levels(options_.transport, needed, deadline_));
    StageSchedule stages = build_stages(plan, std::move(schedule), levels, limits);
    ConversionCopies conversions = make_conversion_copies(plan, stages.schedule, options_.memory);
    StreamProgram program = program_of(stages, !conversions.before.empty());
    const SignalMap map(stages, program);
    const Status made = allocate(std::move(stages), std::move(program), conversions, map);
    // Also where that failed: the peers wait for this rank's letters.
    Result<bool> is_mapped = exchange(map, made);
    RESHARD_TRY(const bool is_agreed, agree_on_result(options_.transport, is_mapped, deadline_));
    if (!is_agreed) work_ = nullptr;
    return is_agreed;
  }

  Status allocate(StageSchedule stages, StreamProgram program, const ConversionCopies& conversions,
                  const SignalMap& map) {
    const std::int32_t device = options_.choice.device;
    RESHARD_TRY(work_, StreamWork::create(options_.plan, std::move(stages), std::move(program), conversions,
                                          options_.memory, device));
    RESHARD_TRY(work_->signals, StreamSignals::create(device, map));
    return {};
  }

  Result<bool> exchange(const SignalMap& map, const Status& made) {
    StreamSignals* const signals = made.ok() ? work_->signals.get() : nullptr;
    const SignalExchange letters{options_.transport, options_.tensors, options_.tag};
    RESHARD_TRY(const bool is_mapped, StreamSignals::exchange(letters, map, signals, deadline_));
    RESHARD_TRY(made);
    if (is_mapped) RESHARD_TRY(signals->upload(work_->stream(StreamKind::kControl)));
    return is_mapped;
  }

  /// Connections that are made in a run would hold up start().
  Status warm_up() {
    const StageSchedule& stages = work_->stages();
    std::set<std::int32_t> to;
    std::set<std::int32_t> from;
    for (const StepId id : stages.all_sends) to.insert(stages.out(id).peer);
    for (const StepId id : stages.all_receives) from.insert(stages.in(id).peer);
    const std::vector<std::int32_t> sends_to(to.begin(), to.end());
    const std::vector<std::int32_t> receives_from(from.begin(), from.end());
    return comm_->warm_up(sends_to, receives_from, options_.transport, deadline_);
  }

  const StreamBindOptions& options_;
  const Deadline& deadline_;
  std::shared_ptr<NcclComm> comm_;
  std::shared_ptr<StreamWork> work_;
};

}  // namespace

Result<std::shared_ptr<StreamWork>> bind_streams(const StreamBindOptions& options, Status mine,
                                                 const Deadline& deadline) {
  return StreamBinder(options, deadline).bind(std::move(mine));
}

}  // namespace reshard
