// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/exec/run.h"

#include <fmt/format.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <utility>

#include "tests/unit/exec/late_copier.h"

namespace {

// Counts the allocations of a thread while it asks for it.
thread_local bool is_counting = false;
std::atomic<int> num_allocations{0};

}  // namespace

// The sanitizers bring operators of their own; there nothing is counted.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// NOLINTBEGIN(misc-new-delete-overloads)
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"  // both sides are replaced here
void* operator new(std::size_t size) {
  if (is_counting) {
    ++num_allocations;
  }
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
// NOLINTEND(misc-new-delete-overloads)
#endif

namespace reshard::testing {
namespace {

/// Waits for the groups in the rank's order; what it finds wrong in them, it says.
Status wait_for_groups(const RunOptions& options, std::int32_t rank, Driver* driver, RankBuffers* dst, int run,
                       std::string* wrong) {
  const auto count = static_cast<std::int32_t>(options.plan->groups.size());
  for (std::int32_t position = 0; position < count; ++position) {
    const std::int32_t group = (position + at(options.plan->first_groups, rank)) % count;
    RESHARD_TRY(driver->wait_group(group, Deadline(kTimeoutUs)));
    if (driver->num_groups_complete() <= position) *wrong += "fewer groups complete than waited for\n";
    if (!options.spoils_groups) continue;
    is_counting = false;
    *wrong += dst->check(run, at(options.plan->groups, group));
    dst->poison_group(at(options.plan->groups, group));
    is_counting = run > 0 && !is_on_device();
  }
  return {};
}

std::string run_rank(const RunOptions& options, Transport* transport) {
  RankBuffers src(*options.scenario.src, transport->rank(), transport, options.src_mappable);
  RankBuffers dst(*options.scenario.dst, transport->rank(), transport, options.dst_mappable);
  BindOptions bind_options{options.plan, transport, src.bound(), dst.bound(), 0, kTimeoutUs};
  const std::uint64_t seed = options.late_seed + static_cast<std::uint64_t>(transport->rank());
  const bool is_late = options.late_seed != 0;
  if (is_late && is_on_device()) {
    src.queue_writes();
    dst.queue_writes();
  } else if (is_late) {
    bind_options.make_copier = [seed] { return std::unique_ptr<Copier>(std::make_unique<LateCopier>(seed)); };
  }
  Result<std::unique_ptr<Binding>> binding = testing::bind(bind_options);
  if (!binding.ok()) return binding.status().message() + "\n";
  if ((*binding)->volume().staging_bytes > options.plan->options.staging_bytes) return "staging above its budget\n";
  Driver& driver = (*binding)->driver();
  std::string all_wrong;  // does not end the runs: peers wait for this rank
  for (int run = 0; run < options.num_runs; ++run) {
    // Until it is done, a copier that is late must leave both alone: what was read before it is wrong, and what was
    // written before it is lost.
    LateCopier::Work prepare = [&] {
      const bool was_counting = std::exchange(is_counting, false);
      src.fill(run);
      dst.poison();
      is_counting = was_counting;
    };
    src.poison();
    // On a device the work is queued in a stream, on the host LateCopier does it when it likes.
    if (!is_late || is_on_device()) prepare();
    void* late_stream = is_on_device() ? callers_stream() : &prepare;
    std::string wrong;
    is_counting = run > 0 && !is_on_device();  // the double of CUDA allocates
    Status status = driver.start(is_late ? late_stream : nullptr);
    if (status.ok()) status = wait_for_groups(options, transport->rank(), &driver, &dst, run, &wrong);
    if (status.ok()) status = driver.finish(Deadline(kTimeoutUs));
    is_counting = false;
    if (!status.ok()) return all_wrong + status.message() + "\n";
    if (!options.spoils_groups) wrong += dst.check(run);
    if (!wrong.empty()) all_wrong += fmt::format("run {}: {}", run, wrong);
  }
  // Peers may still read our source buffers until they have finished, too.
  binding->reset();
  const auto barrier = transport->allgather({}, Deadline(kTimeoutUs));
  return barrier.ok() ? all_wrong : barrier.status().message() + "\n";
}

}  // namespace

std::string try_again_in_vain(Driver* driver, bool is_unhurt) {
  Status status = driver->start();
  if (!is_unhurt) {
    const bool is_told = status.message().find("bind anew") != std::string::npos;
    return status.code() == RESHARD_ERR_INVALID_STATE && is_told ? ""
                                                                 : "a run after one that failed: " + status.message();
  }
  if (status.ok()) status = driver->finish(Deadline(kTimeoutUs));
  return status.code() == RESHARD_ERR_ABANDONED ? "" : "a run without peers: " + status.message();
}

std::string run_world(const RunOptions& options) {
  num_allocations = 0;
  seed_streams(options.late_seed);
  std::string text =
      run_ranks(options.plan->num_ranks, [&](Transport* transport) { return run_rank(options, transport); });
  if (num_allocations > 0) text += fmt::format("{} allocations in runs after the first\n", num_allocations.load());
  return text;
}

}  // namespace reshard::testing
