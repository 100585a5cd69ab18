// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/nccl/lifetime.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

#include <fmt/format.h>

#include "tests/doubles/nccl/group.h"

namespace nccl_double {
namespace {

using Phase = Comm::Phase;

constexpr unsigned int kConfigMagic = 0xcafebeef;
constexpr int kHasRevoke = 22807;
constexpr int kOrdersLaunches = 22600;
constexpr int kSharesDevices = 23000;

bool is_given(int value) {
  return value != NCCL_CONFIG_UNDEF_INT;
}

bool is_set(const char* variable) {
  const char* const text = std::getenv(variable);
  return text != nullptr && std::string_view(text) != "0";
}

PlanRules rules_for(const ncclConfig_t& config) {
  const Settings& settings = World::get().settings;
  PlanRules rules{settings.version,
                  {settings.num_channels, settings.channels_per_peer, settings.channels_per_operation,
                   static_cast<std::uint64_t>(settings.part_bytes)}};
  if (!is_given(config.maxCTAs)) return rules;
  const auto most = static_cast<int>(std::bit_ceil(static_cast<unsigned>(std::max(config.maxCTAs, 1))));
  rules.channels.total = std::min(rules.channels.total, most);
  rules.channels.per_peer = std::min(rules.channels.per_peer, most);
  rules.channels.per_operation = std::min(rules.channels.per_operation, most);
  return rules;
}

/// Takes this rank's place, if nobody has it and its device is nobody's.
ncclResult_t join(const Comm& comm) {
  Shared& shared = comm.clique->shared();
  const int num_ranks = comm.clique->num_ranks();
  std::int32_t others = 0;
  if (!shared.num_ranks.compare_exchange_strong(others, num_ranks) && others != num_ranks) {
    return fail(ncclInvalidUsage, fmt::format("{} ranks here, {} elsewhere", num_ranks, others));
  }
  RankSlot& slot = comm.clique->rank(comm.rank);
  slot.device.store(comm.device);
  if (slot.has_joined.exchange(1) != 0) return fail(ncclInvalidUsage, fmt::format("rank {} came twice", comm.rank));
  slot.process.store(getpid());
  const bool shares_devices = comm.rules.version >= kSharesDevices && is_set("NCCL_MULTI_RANK_GPU_ENABLE");
  for (int rank = 0; rank < num_ranks && !shares_devices; ++rank) {
    const RankSlot& other = comm.clique->rank(rank);
    if (rank == comm.rank || other.has_joined.load() == 0 || other.device.load() != comm.device) continue;
    return fail(ncclInvalidUsage, fmt::format("ranks {} and {} are both on device {}", comm.rank, rank, comm.device));
  }
  ++shared.num_joined;
  comm.clique->note_step();
  return ncclSuccess;
}

}  // namespace

ncclResult_t make_comm(ncclComm_t* out, int num_ranks, const ncclUniqueId& id, int rank, const ncclConfig_t& config) {
  Group& group = Group::of_this_thread();
  if (out == nullptr || num_ranks < 1 || num_ranks > kMaxRanks || rank < 0 || rank >= num_ranks) {
    return group.note(fail(ncclInvalidArgument, fmt::format("rank {} of {}", rank, num_ranks)));
  }
  if (config.magic != kConfigMagic) return group.note(fail(ncclInvalidArgument, "the config was not initialised"));
  *out = nullptr;
  auto comm = std::make_shared<Comm>();
  comm->clique = Clique::open(id, num_ranks);
  if (comm->clique == nullptr) return group.note(fail(ncclInvalidArgument, "the unique id is nobody's"));
  comm->rank = rank;
  comm->device = cuda().current_device();
  comm->is_blocking = !is_given(config.blocking) || config.blocking != 0;
  comm->rules = rules_for(config);
  comm->orders_launches = comm->rules.version >= kOrdersLaunches && is_set("NCCL_LAUNCH_ORDER_IMPLICIT");
  if (const ncclResult_t code = join(*comm); code != ncclSuccess) return group.note(code);
  if (!comm->is_blocking) comm->polls_left = static_cast<int>(World::get().random() % 4);
  *out = add_handle(comm);
  return group.add_new(comm);
}

ncclResult_t finalize_comm(Comm* comm) {
  if (comm->phase != Phase::kReady && comm->phase != Phase::kConnecting) {
    return fail(ncclInvalidArgument, fmt::format("{} was finalized or revoked before", comm->name()));
  }
  if (const ncclResult_t code = check_ready(*comm, "ncclCommFinalize"); code != ncclSuccess) return code;
  comm->phase = Phase::kFinalizing;
  comm->clique->note_step();
  if (!comm->is_blocking) return comm->async_error();
  bool has_timed_out = false;
  ++comm->num_inside;
  cuda().work_until([&] {
    comm->advance();
    has_timed_out = comm->clique->ns_since_step() > World::get().settings.deadlock_ms * 1'000'000;
    return comm->phase != Phase::kFinalizing || has_timed_out;
  });
  --comm->num_inside;
  return has_timed_out ? fail(ncclInternalError, "not all ranks finalized") : ncclSuccess;
}

ncclResult_t revoke_comm(Comm* comm, int flags) {
  if (World::get().settings.version < kHasRevoke) {
    misuse("ncclCommRevoke, which this version has not");
    return fail(ncclInvalidUsage, "no such function in this version");
  }
  if (flags != NCCL_REVOKE_DEFAULT) return fail(ncclInvalidArgument, "flags of ncclCommRevoke must be 0");
  if (comm->phase != Phase::kReady && comm->phase != Phase::kConnecting) {
    return fail(ncclInvalidArgument, fmt::format("{} was finalized or revoked before", comm->name()));
  }
  comm->phase = Phase::kRevoking;
  comm->drop_pending();
  comm->clique->note_step();
  if (!comm->is_blocking) {
    comm->polls_left = static_cast<int>(World::get().random() % 4);
    return comm->async_error();
  }
  ++comm->num_inside;
  cuda().work_until([&] { return comm->num_unfinished == 0; });
  --comm->num_inside;
  comm->phase = Phase::kRevoked;
  return ncclSuccess;
}

ncclResult_t abort_comm(ncclComm_t handle, Comm* comm) {
  if (comm->is_blocking && comm->num_unfinished > 0) {
    misuse(fmt::format("ncclCommAbort of {}, which is blocking, while its kernels run", comm->name()));
  }
  if (comm->num_inside > 0 || comm->owner_of_group != std::thread::id()) {
    misuse(fmt::format("ncclCommAbort of {} while another call is inside NCCL with it", comm->name()));
  }
  comm->phase = Phase::kAborted;
  comm->drop_pending();
  comm->clique->rank(comm->rank).has_gone.store(1);
  comm->clique->note_step();
  remove_handle(handle);
  return ncclSuccess;
}

ncclResult_t destroy_comm(ncclComm_t handle, Comm* comm) {
  if (const ncclResult_t code = check_ready(*comm, "ncclCommDestroy"); code != ncclSuccess) return code;
  if (comm->num_captured > 0) {
    misuse(
        fmt::format("ncclCommDestroy of {}, whose groups a graph holds: NCCL waits for the graph's end", comm->name()));
  }
  // What is queued is waited for; that it never ends, the watch for deadlocks finds.
  ++comm->num_inside;
  cuda().work_until([&] { return comm->num_unfinished == 0; });
  --comm->num_inside;
  comm->phase = Phase::kDestroyed;
  comm->clique->rank(comm->rank).has_gone.store(1);
  remove_handle(handle);
  return ncclSuccess;
}

}  // namespace nccl_double
