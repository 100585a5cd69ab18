// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/nccl/comm.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

namespace nccl_double {
namespace {

std::map<ncclComm_t, std::shared_ptr<Comm>>& handles() {
  static auto& list = *new std::map<ncclComm_t, std::shared_ptr<Comm>>;
  return list;
}

/// Never given out again, so that a handle that was destroyed is known for what it is.
std::set<ncclComm_t>& destroyed() {
  static auto& list = *new std::set<ncclComm_t>;
  return list;
}

}  // namespace

std::string Comm::name() const {
  return fmt::format("rank {} of {} (device {})", rank, clique->num_ranks(), device);
}

ncclResult_t Comm::async_error() const {
  const auto told = static_cast<ncclResult_t>(clique->rank(rank).async_error.load());
  if (told != ncclSuccess) return told;
  return is_in_progress() ? ncclInProgress : ncclSuccess;
}

void Comm::advance() {
  if (polls_left > 0) {
    --polls_left;
    return;
  }
  if (phase == Phase::kConnecting && clique->is_complete()) phase = Phase::kReady;
  if (phase == Phase::kRevoking && num_unfinished == 0) phase = Phase::kRevoked;
  if (phase == Phase::kFinalizing && num_unfinished == 0) {
    if (clique->rank(rank).has_finalized.exchange(1) == 0) ++clique->shared().num_finalized;
    if (clique->shared().num_finalized.load() == clique->num_ranks()) phase = Phase::kFinalized;
  }
  if (phase == Phase::kConnecting) return;
  std::vector<std::function<void()>> due;
  due.swap(pending);
  for (const auto& action : due) action();
}

ncclResult_t Comm::begin(std::function<void()> action) {
  if (is_blocking) {
    action();
    return ncclSuccess;
  }
  polls_left = static_cast<int>(World::get().random() % 4);
  pending.push_back(std::move(action));
  return ncclInProgress;
}

std::shared_ptr<Comm> comm_of(ncclComm_t handle, const char* function) {
  const auto found = handles().find(handle);
  if (found != handles().end()) return found->second;
  if (destroyed().count(handle) != 0) {
    misuse(fmt::format("{} of a communicator that was destroyed or aborted", function));
  }
  (void)fail(ncclInvalidArgument, fmt::format("{}: {} is no communicator", function, static_cast<void*>(handle)));
  return nullptr;
}

ncclComm_t add_handle(std::shared_ptr<Comm> comm) {
  auto* const handle = reinterpret_cast<ncclComm_t>(new char);  // an address that nothing else has
  handles()[handle] = std::move(comm);
  ++World::get().counters.comms;
  return handle;
}

void remove_handle(ncclComm_t handle) {
  handles().erase(handle);
  destroyed().insert(handle);
  --World::get().counters.comms;
}

ncclResult_t check_usable(const Comm& comm, const char* function) {
  if (comm.phase == Comm::Phase::kRevoking || comm.phase == Comm::Phase::kRevoked) {
    return fail(ncclInvalidUsage, fmt::format("{}: {} was revoked", function, comm.name()));
  }
  if (comm.phase == Comm::Phase::kFinalizing || comm.phase == Comm::Phase::kFinalized) {
    misuse(fmt::format("{} on {}, which was finalized", function, comm.name()));
    return fail(ncclInvalidUsage, "the communicator was finalized");
  }
  if (comm.is_in_progress()) {
    misuse(fmt::format("{} on {} while it is ncclInProgress", function, comm.name()));
    return fail(ncclInvalidUsage, "the communicator is in progress");
  }
  if (comm.owner_of_group != std::thread::id() && comm.owner_of_group != std::this_thread::get_id()) {
    misuse(fmt::format("{} on {} by a second thread, while a group of another has operations of it", function,
                       comm.name()));
    return fail(ncclInvalidUsage, "two threads in one group");
  }
  return comm.async_error() == ncclSuccess ? ncclSuccess : fail(comm.async_error(), "the communicator is broken");
}

}  // namespace nccl_double
