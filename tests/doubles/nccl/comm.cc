// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/nccl/comm.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

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

bool Comm::is_in_progress() const {
  return polls_left > 0 || !pending.empty() || phase == Phase::kConnecting || phase == Phase::kFinalizing ||
         phase == Phase::kRevoking;
}

ncclResult_t Comm::async_error() const {
  const auto told = static_cast<ncclResult_t>(clique->rank(rank).async_error.load());
  // A revoked one has left its errors behind.
  if (told != ncclSuccess && !is_ended()) return told;
  return is_in_progress() ? ncclInProgress : ncclSuccess;
}

void Comm::note_error(ncclResult_t code) {
  std::int32_t none = ncclSuccess;
  clique->rank(rank).async_error.compare_exchange_strong(none, code);
}

void Comm::break_all(ncclResult_t code) {
  note_error(code);
  for (int other = 0; other < clique->num_ranks(); ++other) {
    std::int32_t none = ncclSuccess;
    if (other != rank) clique->rank(other).async_error.compare_exchange_strong(none, ncclRemoteError);
  }
}

void Comm::look_for_dead_peers() {
  const auto now = std::chrono::steady_clock::now();
  if (now - last_look_ < std::chrono::milliseconds(20)) return;
  last_look_ = now;
  if (clique->dead_rank() >= 0) note_error(ncclRemoteError);
}

void Comm::advance() {
  look_for_dead_peers();
  cuda().do_some();  // a device works without being asked
  if (polls_left > 0) {
    --polls_left;
    return;
  }
  if (phase == Phase::kConnecting && clique->is_complete()) phase = Phase::kReady;
  if (phase == Phase::kConnecting) return;
  while (!pending.empty() && pending.front().is_due()) {
    const Pending first = std::move(pending.front());
    pending.erase(pending.begin());
    if (const ncclResult_t code = first.run(); code != ncclSuccess) note_error(code);
  }
  if (phase == Phase::kRevoking && num_unfinished == 0) phase = Phase::kRevoked;
  if (phase == Phase::kFinalizing && num_unfinished == 0) {
    if (clique->rank(rank).has_finalized.exchange(1) == 0) ++clique->shared().num_finalized;
    if (clique->shared().num_finalized.load() == clique->num_ranks()) phase = Phase::kFinalized;
  }
}

void Comm::hesitate(Pending action) {
  polls_left = static_cast<int>(World::get().random() % 4);
  pending.push_back(std::move(action));
}

void Comm::drop_pending() {
  pending.clear();
  polls_left = 0;
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

ncclResult_t check_ready(const Comm& comm, const char* function) {
  const ncclResult_t code = comm.async_error();
  if (code != ncclInProgress) {
    return code == ncclSuccess ? code : fail(code, fmt::format("{}: {} is broken", function, comm.name()));
  }
  misuse(fmt::format("{} on {} while it is ncclInProgress", function, comm.name()));
  return fail(ncclInvalidArgument, fmt::format("{}: {} is in progress", function, comm.name()));
}

ncclResult_t check_usable(const Comm& comm, const char* function) {
  if (comm.phase == Comm::Phase::kRevoking || comm.phase == Comm::Phase::kRevoked) {
    return fail(ncclInvalidUsage, fmt::format("{}: {} was revoked", function, comm.name()));
  }
  if (comm.phase == Comm::Phase::kFinalizing || comm.phase == Comm::Phase::kFinalized) {
    misuse(fmt::format("{} on {}, which was finalized", function, comm.name()));
    return fail(ncclInvalidUsage, "the communicator was finalized");
  }
  if (const ncclResult_t code = check_ready(comm, function); code != ncclSuccess) return code;
  if (comm.owner_of_group == std::thread::id() || comm.owner_of_group == std::this_thread::get_id()) {
    return ncclSuccess;
  }
  misuse(
      fmt::format("{} on {} by a second thread, while a group of another has operations of it", function, comm.name()));
  return fail(ncclInvalidUsage, "two threads in one group");
}

}  // namespace nccl_double
