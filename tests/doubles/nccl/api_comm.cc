// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Communicators: made, asked, ended.
#include <nccl.h>

#include <memory>

#include "tests/doubles/nccl/lifetime.h"

#pragma GCC visibility push(default)

using nccl_double::call;
using nccl_double::Clique;
using nccl_double::Comm;
using nccl_double::comm_of;
using nccl_double::World;

namespace {

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
    return nccl_double::make_comm(comm, num_ranks, id, rank, config == nullptr ? defaults : *config);
  });
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int num_ranks, ncclUniqueId id, int rank) {
  return call("ncclCommInitRank", [&] {
    const ncclConfig_t defaults = NCCL_CONFIG_INITIALIZER;
    return nccl_double::make_comm(comm, num_ranks, id, rank, defaults);
  });
}

ncclResult_t ncclCommFinalize(ncclComm_t handle) {
  return comm_call("ncclCommFinalize", handle, nccl_double::finalize_comm);
}
ncclResult_t ncclCommDestroy(ncclComm_t handle) {
  if (handle == nullptr) return ncclSuccess;
  return comm_call("ncclCommDestroy", handle, [&](Comm* comm) { return nccl_double::destroy_comm(handle, comm); });
}
ncclResult_t ncclCommAbort(ncclComm_t handle) {
  if (handle == nullptr) return ncclSuccess;
  return comm_call("ncclCommAbort", handle, [&](Comm* comm) { return nccl_double::abort_comm(handle, comm); });
}
ncclResult_t ncclCommRevoke(ncclComm_t handle, int flags) {
  return comm_call("ncclCommRevoke", handle, [&](Comm* comm) { return nccl_double::revoke_comm(comm, flags); });
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t* error) {
  return comm_call("ncclCommGetAsyncError", handle, [&](Comm* comm) {
    comm->advance();
    if (error == nullptr) return ncclInvalidArgument;
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

extern "C" void nccl_double_break(void* handle, int code) {
  const std::lock_guard<std::recursive_mutex> lock(nccl_double::cuda().mutex());
  const std::shared_ptr<Comm> comm = comm_of(static_cast<ncclComm_t>(handle), "nccl_double_break");
  if (comm != nullptr) comm->break_all(static_cast<ncclResult_t>(code));
}
