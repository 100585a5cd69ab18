// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The life of a communicator. Every call that NCCL may hold up for as long as a peer likes is made on a thread that can
// be left behind (detour.h): also those of a communicator that does not block, since they wait for NCCL's own threads,
// and these for the device.
#include "src/transport/nccl/comm_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>

#include "src/device/device.h"
#include "src/transport/nccl/agreement.h"
#include "src/transport/nccl/detour.h"

namespace reshard {
namespace {

using State = NcclComm::State;

// A group is launched in tens of microseconds, so that a wait begins with looking again at once.
constexpr int kEagerTurns = 200;
constexpr auto kPause = std::chrono::microseconds(100);
constexpr int kTurnsPerHealth = 100;

ncclConfig_t config_of(const State& state) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = state.options.is_capturable ? 1 : 0;
  const std::int32_t max_ctas = effective_max_ctas(state.library->version(), state.options);
  if (max_ctas > 0) config.maxCTAs = max_ctas;
  if (state.options.traffic_class >= 0) config.trafficClass = state.options.traffic_class;
  config.commName = "reshard";  // in NCCL's own log
  return config;
}

Status call_on_device(const State& state, std::string_view call, const std::function<ncclResult_t()>& function) {
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(state.device));
  return state.check(call, function());
}

/// A call of the communicator on a detour. Where it does not come back, the communicator is lost.
Status detour(const NcclState& state, const std::string& what, std::function<Status()> call, const Deadline& deadline,
              Collective* collective) {
  Detour made = make_detour(what, std::move(call), deadline, collective);
  if (!made.is_back) state->life = State::Life::kLost;
  return std::move(made.status);
}

/// Stops whatever runs, and frees the communicator, be it connected or not.
Status abort_comm(const NcclState& state, const Deadline& deadline) {
  auto call = [state] {
    return call_on_device(*state, "ncclCommAbort", [&] { return state->nccl().ncclCommAbort(state->comm); });
  };
  RESHARD_TRY(detour(state, "ncclCommAbort", std::move(call), deadline, nullptr));
  state->life = State::Life::kNone;
  return {};
}

Status revoke(const NcclState& state, const Deadline& deadline) {
  auto call = [state, deadline] {
    RESHARD_TRY(call_on_device(*state, "ncclCommRevoke", [&] { return state->nccl().ncclCommRevoke(state->comm, 0); }));
    // An error that the communicator had before is no news here; only whether it has come to rest.
    Status settled = settle(*state, "ncclCommRevoke", deadline, nullptr);
    return settled.code() == RESHARD_ERR_TIMEOUT ? settled : Status();
  };
  RESHARD_TRY(detour(state, "ncclCommRevoke", std::move(call), after(deadline), nullptr));
  state->life = State::Life::kRevoked;
  return {};
}

/// Peace first: what peers still take out of this rank's buffers is sent, if they come for it in time.
Status finalize_and_destroy(const State& state, const Deadline& deadline) {
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(state.device));
  Status finalized = state.check("ncclCommFinalize", state.nccl().ncclCommFinalize(state.comm));
  if (finalized.ok()) finalized = settle(state, "ncclCommFinalize", deadline, nullptr);
  if (finalized.ok()) return state.check("ncclCommDestroy", state.nccl().ncclCommDestroy(state.comm));
  return state.check("ncclCommAbort", state.nccl().ncclCommAbort(state.comm));
}

/// What NCCL may still use must neither be freed nor be lost sight of.
void keep_for_ever(NcclState state) {
  static std::mutex mutex;
  static auto* kept = new std::vector<NcclState>();  // outlives the destructors of statics, as NCCL's threads do
  const std::lock_guard lock(mutex);
  kept->push_back(std::move(state));
}

}  // namespace

Status State::fail(Status status) {
  if (failure.ok()) failure = status;
  return status;
}

Status settle(const State& state, std::string_view what, const Deadline& deadline, Collective* collective) {
  for (int turn = 1;; ++turn) {
    ncclResult_t code = ncclSuccess;
    RESHARD_TRY(state.check("ncclCommGetAsyncError", state.nccl().ncclCommGetAsyncError(state.comm, &code)));
    if (code != ncclInProgress) return state.check(what, code);
    if (deadline.expired()) {
      return {RESHARD_ERR_TIMEOUT,
              fmt::format("{} is still under way after {} ms: a peer has not come to it, or is gone", what,
                          deadline.timeout_us() / 1000)};
    }
    if (collective != nullptr && turn % kTurnsPerHealth == 0) RESHARD_TRY(collective->health());
    if (turn < kEagerTurns) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kPause);
    }
  }
}

Status check_given(const State& state) {
  RESHARD_TRY(state.library->check_is_the_loaded_one());
  const NcclFunctions& nccl = state.nccl();
  int count = 0;
  int rank = 0;
  int device = 0;
  RESHARD_TRY(state.check("ncclCommCount of the given communicator", nccl.ncclCommCount(state.comm, &count)));
  RESHARD_TRY(state.check("ncclCommUserRank of the given communicator", nccl.ncclCommUserRank(state.comm, &rank)));
  RESHARD_TRY(state.check("ncclCommCuDevice of the given communicator", nccl.ncclCommCuDevice(state.comm, &device)));
  if (count != state.num_ranks || rank != state.rank) {
    return invalid_argument(
        fmt::format("the given NCCL communicator has this process as rank {} of {}, and the comm as "
                    "rank {} of {}; both must be the same",
                    rank, count, state.rank, state.num_ranks));
  }
  if (device != state.device) {
    return invalid_argument(
        fmt::format("the given NCCL communicator is on device {}, and the buffers on device {}", device, state.device));
  }
  return {};
}

Status connect(const NcclState& state, const std::vector<std::byte>& id, const Deadline& deadline,
               Collective* collective) {
  auto call = [state, id] {
    ncclUniqueId unique{};
    std::memcpy(&unique, id.data(), std::min(sizeof(unique), id.size()));
    ncclConfig_t config = config_of(*state);
    return call_on_device(*state, "ncclCommInitRankConfig", [&] {
      return state->nccl().ncclCommInitRankConfig(&state->comm, state->num_ranks, unique, state->rank, &config);
    });
  };
  Status connected = detour(state, "ncclCommInitRankConfig", std::move(call), deadline, collective);
  if (state->life == State::Life::kLost) return connected;
  if (connected.ok()) connected = settle(*state, "ncclCommInitRankConfig", deadline, collective);
  if (connected.ok()) {
    state->life = State::Life::kAlive;
  } else if (state->comm != nullptr) {
    (void)abort_comm(state, Deadline(NcclComm::kGiveUpUs));
  }
  return connected;
}

Status end_work(const NcclState& state, const Deadline& deadline) {
  if (state->life == State::Life::kRevoked || state->life == State::Life::kNone) return {};
  if (state->life == State::Life::kLost) {
    return {RESHARD_ERR_TIMEOUT, "a thread is still inside a call of NCCL that was left behind"};
  }
  if (state->is_given() && !state->options.may_revoke_given) {
    return {RESHARD_ERR_INVALID_STATE, "the NCCL communicator is the caller's and may not be revoked"};
  }
  if (state->failure.ok()) state->failure = {RESHARD_ERR_INVALID_STATE, "the NCCL communicator was given up"};
  if (state->library->has_revoke()) {
    Status revoked = revoke(state, deadline);
    if (revoked.ok() || state->is_given() || state->life == State::Life::kLost) return revoked;
  }
  return abort_comm(state, deadline);
}

void dispose(NcclState state) {
  if (state->is_given()) {
    // Revoked or healthy, it is the caller's. A failed one may have work on the memory of the warm-up.
    if (!state->failure.ok() && state->life != State::Life::kRevoked) keep_for_ever(std::move(state));
    return;
  }
  const Deadline deadline(NcclComm::kDestroyUs);
  Status ended;
  if (!state->failure.ok()) ended = end_work(state, deadline);
  if (ended.ok() && state->life == State::Life::kAlive) {
    // The same time again for an abort after a finalize that waited in vain.
    auto call = [state, deadline] { return finalize_and_destroy(*state, deadline); };
    ended = detour(state, "ncclCommFinalize", std::move(call), Deadline(2 * NcclComm::kDestroyUs), nullptr);
  } else if (ended.ok() && state->life == State::Life::kRevoked) {
    auto call = [state] {
      return call_on_device(*state, "ncclCommDestroy", [&] { return state->nccl().ncclCommDestroy(state->comm); });
    };
    ended = detour(state, "ncclCommDestroy", std::move(call), deadline, nullptr);
  }
  if (!ended.ok() || state->life == State::Life::kLost) keep_for_ever(std::move(state));
}

}  // namespace reshard
