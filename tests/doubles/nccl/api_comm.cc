// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Communicators: made, asked, ended.
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

#include <fmt/format.h>

#include "tests/doubles/nccl/group.h"

#pragma GCC visibility push(default)

using nccl_double::call;
using nccl_double::Clique;
using nccl_double::Comm;
using nccl_double::comm_of;
using nccl_double::fail;
using nccl_double::misuse;
using nccl_double::World;
using Phase = nccl_double::Comm::Phase;

namespace {

constexpr unsigned int kConfigMagic = 0xcafebeef;

bool is_given(int value) {
  return value != NCCL_CONFIG_UNDEF_INT;
}

nccl_double::PlanRules rules_for(const ncclConfig_t& config) {
  const nccl_double::Settings& settings = World::get().settings;
  nccl_double::PlanRules rules{settings.version,
                               {settings.num_channels, settings.channels_per_peer, settings.channels_per_operation}};
  if (is_given(config.maxCTAs)) {
    const auto most = static_cast<int>(std::bit_ceil(static_cast<unsigned>(std::max(config.maxCTAs, 1))));
    rules.channels.total = std::min(rules.channels.total, most);
    rules.channels.per_peer = std::min(rules.channels.per_peer, most);
    rules.channels.per_operation = std::min(rules.channels.per_operation, most);
  }
  return rules;
}

/// Takes this rank's place, if nobody has it and the device is nobody's.
ncclResult_t join(const Comm& comm) {
  nccl_double::Shared& shared = comm.clique->shared();
  std::int32_t none = 0;
  if (!shared.num_ranks.compare_exchange_strong(none, comm.clique->num_ranks()) && none != comm.clique->num_ranks()) {
    return fail(ncclInvalidUsage, fmt::format("{} ranks here, {} elsewhere", comm.clique->num_ranks(), none));
  }
  nccl_double::RankSlot& slot = comm.clique->rank(comm.rank);
  slot.process.store(getpid());
  slot.device.store(comm.device);
  if (slot.has_joined.exchange(1) != 0) return fail(ncclInvalidUsage, fmt::format("rank {} came twice", comm.rank));
  const bool shares_devices = comm.rules.version >= 23000 && std::getenv("NCCL_MULTI_RANK_GPU_ENABLE") != nullptr;
  for (int rank = 0; rank < comm.clique->num_ranks() && !shares_devices; ++rank) {
    const nccl_double::RankSlot& other = comm.clique->rank(rank);
    if (rank == comm.rank || other.has_joined.load() == 0 || other.device.load() != comm.device) continue;
    return fail(ncclInvalidUsage, fmt::format("ranks {} and {} are both on device {}", comm.rank, rank, comm.device));
  }
  ++shared.num_joined;
  comm.clique->note_step();
  return ncclSuccess;
}

ncclResult_t init(ncclComm_t* out, int num_ranks, const ncclUniqueId& id, int rank, const ncclConfig_t& config) {
  nccl_double::Group& group = nccl_double::Group::of_this_thread();
  if (out == nullptr || num_ranks < 1 || num_ranks > nccl_double::kMaxRanks || rank < 0 || rank >= num_ranks) {
    return group.note(fail(ncclInvalidArgument, fmt::format("rank {} of {}", rank, num_ranks)));
  }
  if (config.magic != kConfigMagic) return group.note(fail(ncclInvalidArgument, "the config was not initialised"));
  *out = nullptr;
  auto comm = std::make_shared<Comm>();
  comm->clique = Clique::open(id, num_ranks);
  if (comm->clique == nullptr) return group.note(fail(ncclInvalidArgument, "the unique id is nobody's"));
  comm->rank = rank;
  comm->device = nccl_double::cuda().current_device();
  comm->is_blocking = !is_given(config.blocking) || config.blocking != 0;
  comm->rules = rules_for(config);
  if (const ncclResult_t code = join(*comm); code != ncclSuccess) return group.note(code);
  if (!comm->is_blocking) comm->polls_left = static_cast<int>(World::get().random() % 4);
  *out = nccl_double::add_handle(comm);
  return group.add_connection(comm);
}

/// Also frees the handle.
ncclResult_t abort(ncclComm_t handle, Comm* comm) {
  if (comm->is_blocking && comm->num_unfinished > 0) {
    misuse(fmt::format("ncclCommAbort of {}, which is blocking, while its kernels run", comm->name()));
  }
  if (comm->num_inside > 0 || comm->owner_of_group != std::thread::id()) {
    misuse(fmt::format("ncclCommAbort of {} while another call is inside NCCL with it", comm->name()));
  }
  comm->phase = Phase::kAborted;
  comm->pending.clear();
  comm->clique->rank(comm->rank).has_gone.store(1);
  comm->clique->note_step();
  nccl_double::remove_handle(handle);
  return ncclSuccess;
}

ncclResult_t destroy(ncclComm_t handle, Comm* comm) {
  const bool was_stopped = comm->phase == Phase::kRevoked || comm->phase == Phase::kFinalized;
  if (!was_stopped && comm->is_in_progress()) {
    misuse(fmt::format("ncclCommDestroy of {} while it is ncclInProgress", comm->name()));
    return fail(ncclInvalidUsage, "the communicator is in progress");
  }
  // What is queued is waited for. A communicator that is broken waits for ever, which the watch for deadlocks ends.
  ++comm->num_inside;
  nccl_double::cuda().work_until([&] { return comm->num_unfinished == 0; });
  --comm->num_inside;
  comm->phase = Phase::kDestroyed;
  comm->clique->rank(comm->rank).has_gone.store(1);
  nccl_double::remove_handle(handle);
  return ncclSuccess;
}

ncclResult_t finalize(Comm* comm) {
  if (comm->is_ended()) {
    return fail(ncclInvalidUsage, fmt::format("ncclCommFinalize of {}, which was revoked", comm->name()));
  }
  if (comm->is_in_progress()) {
    misuse(fmt::format("ncclCommFinalize of {} while it is ncclInProgress", comm->name()));
    return fail(ncclInvalidUsage, "the communicator is in progress");
  }
  comm->phase = Phase::kFinalizing;
  if (!comm->is_blocking) return ncclInProgress;
  ++comm->num_inside;
  bool has_timed_out = false;
  nccl_double::cuda().work_until([&] {
    comm->advance();
    has_timed_out = comm->clique->ns_since_step() > World::get().settings.deadlock_ms * 1'000'000;
    return comm->phase == Phase::kFinalized || comm->is_ended() || has_timed_out;
  });
  --comm->num_inside;
  return has_timed_out ? fail(ncclInternalError, "not all ranks finalized") : ncclSuccess;
}

ncclResult_t revoke(Comm* comm, int flags) {
  if (World::get().settings.version < 22807) {
    misuse("ncclCommRevoke, which this version has not");
    return ncclInvalidUsage;
  }
  if (flags != 0) return fail(ncclInvalidArgument, "flags of ncclCommRevoke must be 0");
  if (comm->is_ended()) return fail(ncclInvalidUsage, fmt::format("{} was revoked before", comm->name()));
  comm->phase = Phase::kRevoking;
  comm->pending.clear();
  comm->polls_left = comm->is_blocking ? 0 : static_cast<int>(World::get().random() % 4);
  comm->clique->note_step();
  if (!comm->is_blocking) return ncclInProgress;
  nccl_double::cuda().work_until([&] { return comm->num_unfinished == 0; });
  comm->advance();
  return ncclSuccess;
}

/// For functions of one communicator.
template <typename Body>
ncclResult_t comm_call(const char* function, ncclComm_t handle, Body body) {
  return call(function, [&] {
    const std::shared_ptr<Comm> comm = comm_of(handle, function);
    return comm == nullptr ? ncclInvalidArgument : body(comm.get());
  });
}

}  // namespace

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  return call("ncclGetVersion", [&] {
    if (version == nullptr) return ncclInvalidArgument;
    *version = World::get().settings.version;
    return ncclSuccess;
  });
}

const char* ncclGetErrorString(ncclResult_t code) {
  switch (code) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInternalError:
      return "internal error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "operation in progress";
    default:
      return "unknown result code";
  }
}

const char* ncclGetLastError(ncclComm_t) {
  return nccl_double::last_error().c_str();
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  return call("ncclGetUniqueId", [&] { return id == nullptr ? ncclInvalidArgument : Clique::make_id(id); });
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int num_ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  return call("ncclCommInitRankConfig", [&] {
    const ncclConfig_t defaults = NCCL_CONFIG_INITIALIZER;
    return init(comm, num_ranks, id, rank, config == nullptr ? defaults : *config);
  });
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int num_ranks, ncclUniqueId id, int rank) {
  return call("ncclCommInitRank", [&] {
    const ncclConfig_t defaults = NCCL_CONFIG_INITIALIZER;
    return init(comm, num_ranks, id, rank, defaults);
  });
}

ncclResult_t ncclCommFinalize(ncclComm_t handle) {
  return comm_call("ncclCommFinalize", handle, finalize);
}
ncclResult_t ncclCommDestroy(ncclComm_t handle) {
  if (handle == nullptr) return ncclSuccess;
  return comm_call("ncclCommDestroy", handle, [&](Comm* comm) { return destroy(handle, comm); });
}
ncclResult_t ncclCommAbort(ncclComm_t handle) {
  if (handle == nullptr) return ncclSuccess;
  return comm_call("ncclCommAbort", handle, [&](Comm* comm) { return abort(handle, comm); });
}
ncclResult_t ncclCommRevoke(ncclComm_t handle, int flags) {
  return comm_call("ncclCommRevoke", handle, [&](Comm* comm) { return revoke(comm, flags); });
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t* error) {
  return comm_call("ncclCommGetAsyncError", handle, [&](Comm* comm) {
    comm->advance();
    *error = comm->async_error();
    return ncclSuccess;
  });
}
ncclResult_t ncclCommCount(ncclComm_t handle, int* count) {
  return comm_call("ncclCommCount", handle,
                   [&](Comm* comm) { return *count = comm->clique->num_ranks(), ncclSuccess; });
}
ncclResult_t ncclCommUserRank(ncclComm_t handle, int* rank) {
  return comm_call("ncclCommUserRank", handle, [&](Comm* comm) { return *rank = comm->rank, ncclSuccess; });
}
ncclResult_t ncclCommCuDevice(ncclComm_t handle, int* device) {
  return comm_call("ncclCommCuDevice", handle, [&](Comm* comm) { return *device = comm->device, ncclSuccess; });
}

}  // extern "C"
