// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Groups, sends, receives and collectives.
#include <nccl.h>

#include <fmt/format.h>

#include "tests/doubles/nccl/group.h"
#include "tests/doubles/nccl/reduce.h"

#pragma GCC visibility push(default)

using nccl_double::call;
using nccl_double::Collective;
using nccl_double::Comm;
using nccl_double::CommGroup;
using nccl_double::fail;
using nccl_double::Group;
using nccl_double::MessageKind;

namespace {

ncclResult_t add_operation(const char* function, bool is_send, void* data, std::size_t count, ncclDataType_t type,
                           int peer, ncclComm_t handle, cudaStream_t stream) {
  return call(function, [&] {
    Group& group = Group::of_this_thread();
    const std::shared_ptr<Comm> comm = nccl_double::comm_of(handle, function);
    if (comm == nullptr) return group.note(ncclInvalidArgument);
    const std::uint64_t element_bytes = nccl_double::bytes_of(type);
    const bool is_peer = peer >= 0 && peer < comm->clique->num_ranks();
    if (!is_peer || element_bytes == 0 || (data == nullptr && count > 0)) {
      return group.note(fail(ncclInvalidArgument, fmt::format("{}: rank {}, type {}, {} elements at {}", function, peer,
                                                              static_cast<int>(type), count, data)));
    }
    return group.add(comm, stream, function, [&](CommGroup* part) {
      part->operations.push_back({is_send, peer, static_cast<std::byte*>(data), count * element_bytes});
    });
  });
}

ncclResult_t add_collective(const char* function, const Collective& collective, ncclComm_t handle,
                            cudaStream_t stream) {
  return call(function, [&] {
    Group& group = Group::of_this_thread();
    const std::shared_ptr<Comm> comm = nccl_double::comm_of(handle, function);
    if (comm == nullptr) return group.note(ncclInvalidArgument);
    const bool reduces = collective.kind == MessageKind::kAllReduce;
    const bool is_played = !reduces || (nccl_double::has_sum(collective.type) && collective.reduction == ncclSum);
    const bool is_rank = collective.root >= 0 && collective.root < comm->clique->num_ranks();
    if (!is_rank || nccl_double::bytes_of(collective.type) == 0 || !is_played) {
      return group.note(
          fail(ncclInvalidArgument, fmt::format("{}: root {}, type {}; of reductions, sums are played", function,
                                                collective.root, static_cast<int>(collective.type))));
    }
    return group.add(comm, stream, function, [&](CommGroup* part) { part->collectives.push_back(collective); });
  });
}

}  // namespace

extern "C" {

ncclResult_t ncclGroupStart() {
  return call("ncclGroupStart", [] { return Group::of_this_thread().start(); });
}

ncclResult_t ncclGroupEnd() {
  return call("ncclGroupEnd", [] { return Group::of_this_thread().end(); });
}

ncclResult_t ncclSend(const void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add_operation("ncclSend", true, const_cast<void*>(data), count, type, peer, comm, stream);
}

ncclResult_t ncclRecv(void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add_operation("ncclRecv", false, data, count, type, peer, comm, stream);
}

ncclResult_t ncclBroadcast(const void* send, void* receive, std::size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  const Collective collective{MessageKind::kBroadcast,
                              static_cast<const std::byte*>(send),
                              static_cast<std::byte*>(receive),
                              count,
                              type,
                              ncclSum,
                              root};
  return add_collective("ncclBroadcast", collective, comm, stream);
}

ncclResult_t ncclAllReduce(const void* send, void* receive, std::size_t count, ncclDataType_t type,
                           ncclRedOp_t reduction, ncclComm_t comm, cudaStream_t stream) {
  const Collective collective{MessageKind::kAllReduce,
                              static_cast<const std::byte*>(send),
                              static_cast<std::byte*>(receive),
                              count,
                              type,
                              reduction,
                              0};
  return add_collective("ncclAllReduce", collective, comm, stream);
}

}  // extern "C"
