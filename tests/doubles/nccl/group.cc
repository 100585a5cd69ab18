// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/nccl/group.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "tests/doubles/nccl/reduce.h"

namespace nccl_double {
namespace {

/// Streams that a group in progress will put work into. Whoever uses them before gets his work in front of it.
class Reservation {
 public:
  explicit Reservation(const CommGroup& group) : streams_(group.streams) {
    for (void* const stream : streams_) {
      cuda().watch_stream(stream, [name = group.comm->name()](const char* what) {
        misuse(fmt::format("{} in a stream of {}, whose group is ncclInProgress", what, name));
      });
    }
  }
  ~Reservation() {
    for (void* const stream : streams_) cuda().watch_stream(stream, nullptr);
  }
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;

 private:
  const std::vector<void*> streams_;
};

/// Waits for something that other ranks do; true: it holds. Not for ever.
template <typename IsDone>
bool wait_for_ranks(const std::vector<std::shared_ptr<Comm>>& comms, IsDone is_done) {
  const auto is_stuck = [](const auto& comm) {
    comm->look_for_dead_peers();
    const ncclResult_t error = comm->async_error();
    if (error != ncclSuccess && error != ncclInProgress) return true;
    return comm->is_ended() || comm->clique->ns_since_step() > World::get().settings.deadlock_ms * 1'000'000;
  };
  for (const auto& comm : comms) {
    comm->clique->note_step();
    ++comm->num_inside;
  }
  cuda().work_until([&] { return is_done() || std::any_of(comms.begin(), comms.end(), is_stuck); });
  for (const auto& comm : comms) --comm->num_inside;
  return is_done();
}

}  // namespace

std::uint64_t Collective::size_bytes() const {
  return count * bytes_of(type);
}

bool CommGroup::is_captured() const {
  return std::any_of(streams.begin(), streams.end(), [](void* stream) { return cuda().is_capturing(stream); });
}

void CommGroup::ask_for_connections() const {
  for (const Operation& operation : operations) {
    const int from = operation.is_send ? comm->rank : operation.peer;
    const int to = operation.is_send ? operation.peer : comm->rank;
    comm->clique->ask_for_connection(from, to, operation.is_send);
    // Without laziness every connection is there.
    if (!World::get().settings.has_lazy_connections) comm->clique->ask_for_connection(from, to, !operation.is_send);
  }
}

bool CommGroup::is_connected() const {
  return std::all_of(operations.begin(), operations.end(), [&](const Operation& operation) {
    return operation.is_send ? comm->clique->is_connected(comm->rank, operation.peer)
                             : comm->clique->is_connected(operation.peer, comm->rank);
  });
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

CommGroup& Group::part_of(const std::shared_ptr<Comm>& comm) {
  const auto found = std::find_if(parts_.begin(), parts_.end(), [&](const auto& part) { return part.comm == comm; });
  return found != parts_.end() ? *found : parts_.emplace_back(CommGroup{comm, {}, {}, {}});
}

ncclResult_t Group::add(const std::shared_ptr<Comm>& comm, void* stream, const char* function,
                        const std::function<void(CommGroup*)>& put) {
  if (const ncclResult_t code = check_usable(*comm, function); code != ncclSuccess) return note(code);
  const int device = cuda().device_of(stream);
  if (device != comm->device) {
    const std::string text = fmt::format("{}: a stream of device {} for {}", function, device, comm->name());
    return note(fail(ncclInvalidArgument, text));
  }
  (void)start();
  CommGroup& part = part_of(comm);
  const bool is_new = std::find(part.streams.begin(), part.streams.end(), stream) == part.streams.end();
  if (is_new) part.streams.push_back(stream);
  put(&part);
  comm->owner_of_group = std::this_thread::get_id();
  return end();
}

ncclResult_t Group::add_new(const std::shared_ptr<Comm>& comm) {
  if (!comm->is_blocking) return comm->async_error();
  new_comms_.push_back(comm);
  (void)start();
  return end();
}

ncclResult_t Group::end() {
  if (depth_ == 0) return fail(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
  if (--depth_ > 0) return ncclSuccess;
  ncclResult_t code = std::exchange(error_, ncclSuccess);
  const auto new_comms = std::exchange(new_comms_, {});
  const auto has_come = [](const auto& comm) { return comm->clique->is_complete(); };
  const auto have_come = [&] { return std::all_of(new_comms.begin(), new_comms.end(), has_come); };
  if (code == ncclSuccess && !new_comms.empty()) {
    const bool are_there = wait_for_ranks(new_comms, have_come);
    if (!are_there) code = fail(ncclSystemError, "not all ranks came");
    for (const auto& comm : new_comms) {
      if (are_there && !comm->is_ended()) comm->phase = Comm::Phase::kReady;
    }
  }
  for (const CommGroup& part : parts_) part.comm->owner_of_group = {};
  if (code == ncclSuccess && !parts_.empty()) code = check_all();
  if (code == ncclSuccess && !parts_.empty()) code = begin_all();
  parts_.clear();
  return code;
}

ncclResult_t Group::check_all() const {
  const bool is_blocking = parts_.front().comm->is_blocking;
  for (const CommGroup& part : parts_) {
    if (part.comm->is_blocking != is_blocking) {
      return fail(ncclInvalidArgument, "blocking and non-blocking communicators in one group");
    }
    std::int64_t balance = 0;
    for (const Operation& operation : part.operations) {
      if (operation.peer == part.comm->rank) balance += operation.is_send ? 1 : -1;
    }
    if (balance != 0) return fail(ncclInvalidUsage, "a send to itself without its receive, or the other way");
    part.ask_for_connections();
    if (!part.is_captured() || (is_blocking && part.is_connected())) continue;
    misuse(fmt::format("a stream that captures is given a group of {}, which is {}", part.comm->name(),
                       is_blocking ? "not connected yet" : "non-blocking"));
    return fail(ncclInvalidUsage, "a group that cannot be captured");
  }
  return ncclSuccess;
}

ncclResult_t Group::begin_all() {
  World::get().counters.groups += static_cast<std::int64_t>(parts_.size());
  if (!parts_.front().comm->is_blocking) {
    for (const CommGroup& part : parts_) {
      const auto group = std::make_shared<const CommGroup>(part);
      auto reservation = std::make_shared<std::unique_ptr<Reservation>>(std::make_unique<Reservation>(part));
      part.comm->hesitate({[group] { return group->is_connected(); },
                           [group, reservation] {
                             reservation->reset();
                             return launch(*group);
                           }});
    }
    return ncclInProgress;
  }
  std::vector<std::shared_ptr<Comm>> comms;
  for (const CommGroup& part : parts_) comms.push_back(part.comm);
  const auto are_connected = [&] {
    return std::all_of(parts_.begin(), parts_.end(), [](const CommGroup& part) { return part.is_connected(); });
  };
  if (!are_connected() && !wait_for_ranks(comms, are_connected)) {
    return fail(ncclInternalError, "a peer did not ask for the connection that a group waits for");
  }
  for (const CommGroup& part : parts_) {
    if (const ncclResult_t code = launch(part); code != ncclSuccess) return code;
  }
  return ncclSuccess;
}

}  // namespace nccl_double
