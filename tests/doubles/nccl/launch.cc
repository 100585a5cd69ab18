// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Kernels of a group: those of its collectives first, then those of its sends and receives.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "tests/doubles/nccl/group.h"
#include "tests/doubles/nccl/kernel.h"
#include "tests/doubles/nccl/reduce.h"

namespace nccl_double {
namespace {

using cuda_double::MakeWork;
using cuda_double::RunWork;

RunWork run_of(std::shared_ptr<Kernel> kernel) {
  return [kernel = std::move(kernel)] { return kernel->run(); };
}

Transfer transfer_of(const Comm& comm, const Operation& operation, const Part& part) {
  Transfer transfer;
  transfer.is_send = operation.is_send;
  transfer.peer = operation.peer;
  transfer.ring = operation.is_send ? &comm.clique->ring(comm.rank, operation.peer, part.channel)
                                    : &comm.clique->ring(operation.peer, comm.rank, part.channel);
  transfer.head = {MessageKind::kSend, static_cast<std::uint32_t>(part.index), operation.size_bytes};
  transfer.data = operation.data + part.begin;
  transfer.size_bytes = part.end - part.begin;
  return transfer;
}

KernelWork work_of(const Comm& comm, const std::vector<Operation>& operations, const std::vector<bool>& is_lost,
                   const KernelPlan& plan) {
  KernelWork work;
  for (const auto& batches : plan.batches) {
    auto& channel = work.channels.emplace_back();
    for (const auto& batch : batches) {
      auto& transfers = channel.emplace_back();
      for (const Part& part : batch) {
        const auto index = static_cast<std::size_t>(part.operation);
        transfers.push_back(transfer_of(comm, operations[index], part));
        transfers.back().is_lost = is_lost[index];
      }
    }
  }
  return work;
}

/// Sends to every rank that receives, receives from every one that sends, all at once.
KernelWork work_of(const Comm& comm, const Collective& collective) {
  KernelWork work;
  work.what = "a collective";
  const std::uint64_t size_bytes = collective.size_bytes();
  const bool reduces = collective.kind == MessageKind::kAllReduce;
  const auto num_ranks = comm.clique->num_ranks();
  auto gathered = std::make_shared<std::vector<std::vector<std::byte>>>(
      static_cast<std::size_t>(reduces ? num_ranks : 0), std::vector<std::byte>(size_bytes));
  std::vector<Transfer> transfers;
  const auto add = [&](bool is_send, int peer, std::byte* data, bool is_of_device) {
    Operation operation{is_send, peer, data, size_bytes};
    Transfer transfer = transfer_of(comm, operation, {0, 0, kMaxChannels, 0, size_bytes});
    transfer.head.kind = collective.kind;
    transfer.is_of_device = is_of_device;
    transfers.push_back(transfer);
  };
  for (int peer = 0; peer < num_ranks; ++peer) {
    if (reduces || (collective.root == comm.rank && peer != comm.rank)) {
      add(true, peer, const_cast<std::byte*>(collective.send), true);
    }
    if (reduces) add(false, peer, (*gathered)[static_cast<std::size_t>(peer)].data(), false);
  }
  if (!reduces && collective.root != comm.rank) add(false, collective.root, collective.receive, true);
  work.channels.push_back({std::move(transfers)});
  work.at_end = [collective, gathered, size_bytes, is_root = collective.root == comm.rank] {
    if (size_bytes == 0) return;
    cuda().open_range(collective.receive, size_bytes, "a collective of NCCL");
    if (collective.kind == MessageKind::kAllReduce) {
      reduce(*gathered, collective.count, collective.type, collective.receive);
    } else if (is_root && collective.receive != collective.send) {
      cuda().open_range(collective.send, size_bytes, "a collective of NCCL");
      std::memcpy(collective.receive, collective.send, size_bytes);
    }
  };
  return work;
}

/// Of a graph that holds work of the communicator.
class Hold {
 public:
  explicit Hold(std::shared_ptr<Comm> comm) : comm_(std::move(comm)) { ++comm_->num_captured; }
  ~Hold() { --comm_->num_captured; }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

 private:
  const std::shared_ptr<Comm> comm_;
};

std::vector<MakeWork> make_kernels(const CommGroup& group) {
  std::vector<MakeWork> made;
  const std::shared_ptr<Comm> comm = group.comm;
  const auto hold = group.is_captured() ? std::make_shared<const Hold>(comm) : nullptr;
  for (const Collective& collective : group.collectives) {
    made.push_back(
        [comm, hold, collective] { return run_of(std::make_shared<Kernel>(comm, work_of(*comm, collective))); });
  }
  const auto operations = std::make_shared<const std::vector<Operation>>(group.operations);
  std::vector<bool> is_lost;
  for (const Operation& operation : *operations) {
    is_lost.push_back(operation.is_send && World::get().lost_message.hit());
  }
  const std::vector<KernelPlan> plans = cut_group(*operations, comm->rank, comm->clique->num_ranks(), comm->rules);
  for (std::size_t index = 0; index < plans.size(); ++index) {
    const std::string what = fmt::format("kernel {} of {} of a group", index + 1, plans.size());
    made.push_back([=, hold = hold, plan = plans[index]] {
      KernelWork work = work_of(*comm, *operations, is_lost, plan);
      work.what = what;
      return run_of(std::make_shared<Kernel>(comm, std::move(work)));
    });
  }
  nccl_double_counters& counters = World::get().counters;
  counters.most_operations = std::max(counters.most_operations, static_cast<std::int64_t>(operations->size()));
  counters.most_kernels = std::max(counters.most_kernels, static_cast<std::int64_t>(made.size()));
  return made;
}

}  // namespace

ncclResult_t launch(const CommGroup& group) {
  if (group.comm->is_ended()) return ncclInvalidUsage;
  for (const Operation& operation : group.operations) {
    if (!operation.is_send) continue;
    ++World::get().counters.sends;
    World::get().counters.sent_bytes += static_cast<std::int64_t>(operation.size_bytes);
  }
  const bool is_queued = cuda().enqueue(group.streams, "a group of NCCL", make_kernels(group));
  return is_queued ? ncclSuccess : fail(ncclUnhandledCudaError, "a stream of the group was destroyed");
}

}  // namespace nccl_double
