// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a thread collects between ncclGroupStart and ncclGroupEnd, and what becomes of it.
#pragma once

#include <nccl.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "tests/doubles/nccl/comm.h"
#include "tests/doubles/nccl/transfer.h"

namespace nccl_double {

struct Collective {
  MessageKind kind = MessageKind::kBroadcast;
  const std::byte* send = nullptr;
  std::byte* receive = nullptr;
  std::uint64_t count = 0;
  ncclDataType_t type = ncclInt8;
  ncclRedOp_t reduction = ncclSum;
  int root = 0;
  std::uint64_t size_bytes() const;
};

/// All that a group has of one communicator.
struct CommGroup {
  std::shared_ptr<Comm> comm;
  std::vector<void*> streams;  // in the order of their first operation; the kernels go into the first
  std::vector<Collective> collectives;
  std::vector<Operation> operations;

  bool is_captured() const;
  /// Connections are made when they are first used, by both ends; whoever uses them first waits for the other.
  void ask_for_connections() const;
  bool is_connected() const;
};

class Group {
 public:
  static Group& of_this_thread();

  ncclResult_t start();
  ncclResult_t end();
  /// Puts something into the part of this communicator. Outside of a group it is one of its own.
  ncclResult_t add(const std::shared_ptr<Comm>& comm, void* stream, const char* function,
                   const std::function<void(CommGroup*)>& put);
  /// A communicator that was just made waits for all its ranks; in a group, for those of this thread, too.
  ncclResult_t add_new(const std::shared_ptr<Comm>& comm);
  /// An error inside of a group is also the group's.
  ncclResult_t note(ncclResult_t code);

 private:
  CommGroup& part_of(const std::shared_ptr<Comm>& comm);
  ncclResult_t begin_all();
  ncclResult_t check_all() const;

  int depth_ = 0;
  ncclResult_t error_ = ncclSuccess;
  std::vector<CommGroup> parts_;
  std::vector<std::shared_ptr<Comm>> new_comms_;
};

/// Cuts it into kernels and queues those (launch.cc).
ncclResult_t launch(const CommGroup& group);

}  // namespace nccl_double
