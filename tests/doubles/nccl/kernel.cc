// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/nccl/kernel.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

namespace nccl_double {
namespace {

constexpr std::int64_t kMostIdle = 200;

/// The clique whose kernels are on the device, and how many. Kernels of two communicators on one device take each
/// other's place: NCCL asks that they be launched in one order everywhere.
struct Resident {
  std::uint64_t clique = 0;
  int num_kernels = 0;
};

Resident& resident_on(int device) {
  static auto& list = *new std::map<int, Resident>;
  return list[device];
}

std::int64_t next_ticket() {
  static std::int64_t next = 0;
  return next++;
}

/// All that are queued in this process.
std::set<const Kernel*>& kernels() {
  static auto& list = *new std::set<const Kernel*>;
  return list;
}

}  // namespace

Kernel::Kernel(std::shared_ptr<Comm> comm, KernelWork work)
    : comm_(std::move(comm)), work_(std::move(work)), ticket_(next_ticket()), current_(work_.channels.size(), 0) {
  ++comm_->num_unfinished;
  comm_->clique->note_step();
  const bool has_gone = comm_->phase == Comm::Phase::kDestroyed || comm_->phase == Comm::Phase::kAborted;
  if (has_gone) misuse(fmt::format("a graph runs a group of {}, which was destroyed or aborted", comm_->name()));
  kernels().insert(this);
}

Kernel::~Kernel() {
  kernels().erase(this);
  if (has_started_) --resident_on(comm_->device).num_kernels;
  --comm_->num_unfinished;
}

bool Kernel::may_start() const {
  const Resident& resident = resident_on(comm_->device);
  const bool is_taken = resident.num_kernels > 0 && resident.clique != comm_->clique->identity();
  if (is_taken && !World::get().settings.has_concurrent_comms) return false;
  if (!comm_->orders_launches) return true;
  return std::none_of(kernels().begin(), kernels().end(), [&](const Kernel* other) {
    return other->comm_->device == comm_->device && other->ticket_ < ticket_ && !other->has_started_;
  });
}

bool Kernel::start() {
  if (!may_start()) return false;
  Resident& resident = resident_on(comm_->device);
  resident.clique = comm_->clique->identity();
  ++resident.num_kernels;
  has_started_ = true;
  ++World::get().counters.kernels;
  if (!check_memory()) {
    cuda().lose_everything(cudaErrorIllegalAddress);
    return false;
  }
  if (World::get().breaking_kernel.hit()) {
    comm_->break_all(static_cast<ncclResult_t>(World::get().breaking_kernel.code));
    is_stuck_ = true;
  }
  return true;
}

/// That the device may touch what it is to send and to fill.
bool Kernel::check_memory() const {
  for (const auto& batches : work_.channels) {
    for (const auto& batch : batches) {
      for (const Transfer& transfer : batch) {
        if (!transfer.is_of_device || transfer.size_bytes == 0) continue;
        if (cuda().can_access(comm_->device, transfer.data, transfer.size_bytes)) continue;
        misuse(fmt::format("{} is given {} bytes at {}, which its device cannot reach", comm_->name(),
                           transfer.size_bytes, static_cast<void*>(transfer.data)));
        return false;
      }
    }
  }
  return true;
}

bool Kernel::run() {
  if (comm_->is_ended() || comm_->phase == Comm::Phase::kDestroyed) return end();
  if (World::get().happens(World::get().settings.delay_percent)) return false;
  if ((has_started_ || start()) && !is_stuck_) {
    if (step_all()) return end();
  }
  watch();
  return false;
}

bool Kernel::end() {
  const bool is_whole = !comm_->is_ended() && comm_->phase != Comm::Phase::kDestroyed;
  if (is_whole && work_.at_end) work_.at_end();
  comm_->clique->note_step();
  return true;
}

bool Kernel::step_all() {
  bool has_moved = false;
  bool is_done = true;
  for (std::size_t channel = 0; channel < work_.channels.size(); ++channel) {
    auto& batches = work_.channels[channel];
    while (current_[channel] < batches.size()) {
      bool is_batch_done = true;
      for (Transfer& transfer : batches[current_[channel]]) {
        if (!transfer.is_done) step(&transfer, &has_moved);
        is_batch_done = is_batch_done && transfer.is_done;
      }
      if (!is_batch_done) break;
      ++current_[channel];
    }
    is_done = is_done && current_[channel] == batches.size();
  }
  if (has_moved) cuda().note_progress();
  return is_done && !is_stuck_;
}

void Kernel::step(Transfer* transfer, bool* has_moved) {
  const auto buffer_bytes = static_cast<std::uint64_t>(World::get().settings.buffer_bytes);
  const Transfer::Step result = transfer->step(buffer_bytes);
  if (result == Transfer::Step::kMismatch && !is_stuck_) {
    is_stuck_ = true;
    misuse(fmt::format("{} receives {} bytes (kind {}) from rank {}, which sends {} (kind {})", comm_->name(),
                       transfer->head.operation_bytes, static_cast<int>(transfer->head.kind), transfer->peer,
                       transfer->found.operation_bytes, static_cast<int>(transfer->found.kind)));
  }
  *has_moved = *has_moved || result == Transfer::Step::kMoved || result == Transfer::Step::kDone;
}

/// Nobody can go on, and nobody has for a while: everybody is told, on this and on all other processes.
void Kernel::watch() {
  const Clique& clique = *comm_->clique;
  if (const std::int64_t steps = cuda().num_steps(); steps != seen_steps_) {
    seen_steps_ = steps;
    num_idle_ = 0;
    clique.note_step();
    return;
  }
  // Time alone proves nothing: this process may not have been given any.
  if (++num_idle_ < kMostIdle) return;
  World& world = World::get();
  const bool is_known = clique.shared().is_deadlocked.load() != 0;
  if (!is_known && clique.ns_since_step() < world.settings.deadlock_ms * 1'000'000) return;
  clique.shared().is_deadlocked.store(1);
  ++world.counters.deadlocks;
  world.last_deadlock = report();
  for (const Kernel* other : kernels()) {
    const bool is_part = other != this && other->comm_->clique->identity() == clique.identity() && other->has_started_;
    if (is_part) world.last_deadlock += " | " + other->report();
  }
  std::fprintf(stderr, "the double of NCCL: a deadlock: %.500s\n", world.last_deadlock.c_str());
  comm_->break_all(ncclInternalError);
  cuda().lose_everything(cudaErrorLaunchTimeout);
}

std::string Kernel::report() const {
  std::string text = fmt::format("{} of {}", work_.what, comm_->name());
  if (!has_started_) return text + " waits for kernels of other communicators on its device";
  // Operations of which some part is under way, and how many parts.
  std::map<std::string, int> waiting;
  for (std::size_t channel = 0; channel < work_.channels.size(); ++channel) {
    if (current_[channel] == work_.channels[channel].size()) continue;
    for (const Transfer& transfer : work_.channels[channel][current_[channel]]) {
      if (transfer.is_done) continue;
      ++waiting[fmt::format("a {} rank {} of {} bytes", transfer.is_send ? "send to" : "receive from", transfer.peer,
                            transfer.head.operation_bytes)];
    }
  }
  text += " waits for";
  for (const auto& [operation, num_parts] : waiting) text += fmt::format(" {} ({} parts),", operation, num_parts);
  text.pop_back();
  return text;
}

}  // namespace nccl_double
