// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/nccl/group.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "tests/doubles/nccl/reduce.h"

namespace nccl_double {

std::uint64_t Collective::size_bytes() const {
  return count * bytes_of(type);
}

Group& Group::of_this_thread() {
  thread_local Group group;
  return group;
}

ncclResult_t Group::note(ncclResult_t code) {
  if (depth_ > 0 && code != ncclSuccess && code != ncclInProgress && error_ == ncclSuccess) error_ = code;
  return code;
}

ncclResult_t Group::start() {
  ++depth_;
  return ncclSuccess;
}

ncclResult_t Group::add(const std::shared_ptr<Comm>& comm, void* stream, const char* function,
                        const std::function<void(CommGroup*)>& put) {
  if (const ncclResult_t code = check_usable(*comm, function); code != ncclSuccess) return note(code);
  const int device = cuda().device_of(stream);
  if (device != comm->device) {
    return note(
        fail(ncclInvalidArgument, fmt::format("{}: a stream of device {} for {}", function, device, comm->name())));
  }
  (void)start();
  auto part = std::find_if(parts_.begin(), parts_.end(), [&](const CommGroup& other) { return other.comm == comm; });
  if (part == parts_.end()) part = parts_.insert(parts_.end(), CommGroup{comm, {}, {}, {}});
  if (std::find(part->streams.begin(), part->streams.end(), stream) == part->streams.end()) {
    part->streams.push_back(stream);
  }
  put(&*part);
  comm->owner_of_group = std::this_thread::get_id();
  return end();
}

ncclResult_t Group::add_connection(const std::shared_ptr<Comm>& comm) {
  if (!comm->is_blocking) return ncclInProgress;
  connecting_.push_back(comm);
  (void)start();
  return end();
}

ncclResult_t Group::end() {
  if (depth_ == 0) return fail(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
  if (--depth_ > 0) return ncclSuccess;
  ncclResult_t code = std::exchange(error_, ncclSuccess);
  for (const auto& comm : std::exchange(connecting_, {})) {
    if (code == ncclSuccess) code = wait_for_ranks(comm);
  }
  for (const CommGroup& part : parts_) part.comm->owner_of_group = {};
  if (code == ncclSuccess) code = launch_all();
  parts_.clear();
  return code;
}

ncclResult_t Group::launch_all() {
  ncclResult_t all = ncclSuccess;
  for (CommGroup& part : parts_) {
    ++World::get().counters.groups;
    const std::shared_ptr<Comm> comm = part.comm;
    if (comm->is_blocking) {
      const ncclResult_t code = launch(std::move(part));
      if (code != ncclSuccess) return code;
      continue;
    }
    auto shared = std::make_shared<CommGroup>(std::move(part));
    const ncclResult_t code = comm->begin([shared] { (void)launch(std::move(*shared)); });
    if (code != ncclSuccess) all = code;
  }
  return all;
}

ncclResult_t wait_for_ranks(const std::shared_ptr<Comm>& comm) {
  comm->clique->note_step();
  bool has_timed_out = false;
  ++comm->num_inside;
  cuda().work_until([&] {
    has_timed_out = comm->clique->ns_since_step() > World::get().settings.deadlock_ms * 1'000'000;
    return comm->clique->is_complete() || comm->phase == Comm::Phase::kAborted || has_timed_out;
  });
  --comm->num_inside;
  comm->advance();
  if (comm->phase == Comm::Phase::kReady) return ncclSuccess;
  return fail(ncclSystemError, fmt::format("{}: {} of {} ranks came", comm->name(),
                                           comm->clique->shared().num_joined.load(), comm->clique->num_ranks()));
}

}  // namespace nccl_double
