// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A live run of reshard_perf, as one of its ranks sees it: layouts, plan, memory, binding, timed runs, checked runs.
// Ranks do all of it in the same order, because binding, barriers and sums are collective: a rank that skipped a step
// would leave the others waiting until the deadline.
#include "perf/engine/live_run.h"

#include <algorithm>
#include <chrono>
#include <memory>

#include "perf/data/arena.h"
#include "perf/data/checkpoint.h"
#include "perf/data/dump.h"
#include "perf/data/fill.h"
#include "perf/data/formula.h"
#include "perf/engine/error.h"
#include "perf/engine/launcher.h"
#include "perf/engine/patterns.h"
#include "perf/engine/plain_copy.h"
#include "perf/engine/plan_report.h"
#include "perf/engine/progress.h"

namespace reshard::perf {
namespace {

using Clock = std::chrono::steady_clock;

std::unique_ptr<ElementSource> make_values(const PerfOptions& options, const std::vector<TensorPair>& tensors) {
  if (options.load.empty()) return std::make_unique<FormulaSource>();
  for (const TensorPair& tensor : tensors) {
    if (tensor.quant != nullptr)
      fail("--load: tensor {} is converted from or to 8-bit floats; leave --load out", tensor.name);
  }
  return std::make_unique<CheckpointSource>(options.load, tensors);
}

/// ucx and local say how the ranks' comm moves messages, so that the driver that uses them is meant.
reshard_driver_t driver_of(TransportKind transport) {
  if (transport == TransportKind::kAuto) return RESHARD_DRIVER_AUTO;
  return transport == TransportKind::kNccl ? RESHARD_DRIVER_NCCL : RESHARD_DRIVER_POLL;
}

/// On the device that the rank's buffers are on, or would be.
Binding make_binding(const Ranks& ranks, TransportKind transport, std::int32_t device, reshard_plan_t plan,
                     const std::vector<reshard_buffer_t>& src, const std::vector<reshard_buffer_t>& dst) {
  reshard_binding_desc_t desc;
  reshard_binding_desc_init(&desc);
  desc.plan = plan;
  desc.comm = ranks.comm;
  desc.num_src_buffers = static_cast<std::int64_t>(src.size());
  desc.src_buffers = src.data();
  desc.num_dst_buffers = static_cast<std::int64_t>(dst.size());
  desc.dst_buffers = dst.data();
  desc.timeout_us = ranks.timeout_us;
  desc.driver = driver_of(transport);
  desc.device = device;
  reshard_binding_t binding = nullptr;
  check(reshard_binding_create(&desc, &binding), "binding");
  return Binding(binding);
}

void run_once(const Ranks& ranks, reshard_binding_t binding) {
  check(reshard_binding_start(binding, nullptr), "starting a run");
  check(reshard_binding_finish(binding, ranks.timeout_us), "finishing a run");
}

reshard_binding_stats_t stats_of(reshard_binding_t binding) {
  reshard_binding_stats_t stats;
  reshard_binding_stats_init(&stats);
  check(reshard_binding_get_stats(binding, &stats), "reading the counters");
  return stats;
}

constexpr const char* kTool = "reshard_perf";

/// What is in doubt of the machine, the first rank says for all, before anything can fail because of it.
Job job_of_rank(const PerfOptions& options, std::int32_t rank) {
  Job job = make_job(options.job);
  if (rank == 0) show_warnings(job, kTool);
  return job;
}

/// What made this process believe that a launcher had started the ranks.
std::string why_ranks_were_counted() {
  const std::string variables = launcher_variables();
  if (variables.empty()) return "";
  return fmt::format(", as {} say; to start the ranks on this host instead, pass --start-ranks", variables);
}

/// Ranks take devices in turn, by their number: with as many ranks on each host as it has GPUs, or a multiple of that,
/// each GPU has as many ranks as the next.
MemoryChoice choose_memory(const PerfOptions& options, std::int32_t rank) {
  MemoryChoice choice{options.memory, -1, options.use_heap};
  if (options.memory == RESHARD_MEMORY_HOST) return choice;
  std::int32_t num_devices = 0;
  check(reshard_device_count(&num_devices), "--memory cuda");
  choice.device = rank % num_devices;
  return choice;
}

/// One rank at work on the job.
class RankRun {
 public:
  RankRun(const PerfOptions& options, const Ranks& ranks)
      : options_(options),
        ranks_(ranks),
        job_(job_of_rank(options, ranks.rank)),
        plan_(make_plan(options.job, job_)),
        tensors_(pair_tensors(job_)),
        values_(make_values(options, tensors_)),
        patterns_(group_by_pattern(tensors_)),
        progress_(num_steps(), ranks.rank == 0) {
    if (ranks.num_ranks != job_.num_ranks) {
      fail("the job needs {} ranks, but {} were started{}", job_.num_ranks, ranks.num_ranks, why_ranks_were_counted());
    }
  }

  LiveResult run() {
    progress_.step("filling the source");
    const MemoryChoice memory = choose_memory(options_, ranks_.rank);
    src_ = std::make_unique<Arena>(ranks_.comm, job_.src.get(), ranks_.rank, memory);
    dst_ = std::make_unique<Arena>(ranks_.comm, job_.dst.get(), ranks_.rank, memory);
    fill_source({job_.src.get(), ranks_.rank, values_.get()}, tensors_, *src_);
    src_->publish();
    progress_.step("binding");
    Binding binding = make_binding(ranks_, options_.transport, memory.device, plan_.get(), src_->binding_buffers(),
                                   dst_->binding_buffers());

    LiveResult result;
    result.num_ranks = ranks_.num_ranks;
    result.plan_report = plan_report(plan_.get());
    result.layout_seconds = job_.layout_seconds;
    result.warnings = job_.warnings;
    result.total = time_binding("run", plan_.get(), binding.get());
    add_counters(binding.get(), &result);
    for (const Pattern& pattern : patterns_) result.patterns.push_back(time_pattern(pattern));
    check_runs(binding.get(), &result);
    barrier(ranks_);  // no rank's memory goes away while another may still have it mapped
    binding.reset();
    if (!options_.dump.empty()) {
      progress_.step("dumping");
      dst_->fetch();
      dump_destination(options_.dump, job_.dst.get(), ranks_.rank, tensors_, *dst_);
    }
    result.peak_rss_bytes =
        static_cast<std::int64_t>(max_over_ranks(ranks_, {static_cast<double>(peak_rss_bytes())})[0]);
    return result;
  }

 private:
  /// A weight alone cannot be planned where it goes with its scales.
  bool times_patterns() const {
    return options_.time_patterns && std::none_of(tensors_.begin(), tensors_.end(),
                                                  [](const TensorPair& tensor) { return tensor.quant != nullptr; });
  }

  int num_steps() const {
    // Filling and binding; the timed runs; the plain copies; a run and a look for each check; the dump.
    const int per_binding = options_.num_warmups + options_.num_runs;
    const int num_timed = 1 + (times_patterns() ? static_cast<int>(patterns_.size()) : 0);
    return 2 + per_binding * num_timed + 1 + 2 * options_.num_checks + 1;
  }

  Timing time_binding(const std::string& label, reshard_plan_t plan, reshard_binding_t binding) {
    std::vector<double> seconds;
    for (int i = -options_.num_warmups; i < options_.num_runs; ++i) {
      progress_.step(i < 0 ? label + ", warming up" : fmt::format("{} {} of {}", label, i + 1, options_.num_runs));
      barrier(ranks_);
      // Behind a barrier, so that a rank's time is that of the transfer and not of waiting for a peer that is still
      // busy with the run before. The time of a run is its slowest rank's, which the maximum over the ranks gives.
      const auto start = Clock::now();
      run_once(ranks_, binding);
      if (i >= 0) seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    const nlohmann::json report = plan_report(plan);
    return {report.at("bytes_crossed").get<std::int64_t>(),
            report.at("receivers").at("bound_bytes").get<std::int64_t>(), max_over_ranks(ranks_, seconds)};
  }

  void add_counters(reshard_binding_t binding, LiveResult* result) {
    const reshard_binding_stats_t stats = stats_of(binding);
    const auto sums = sum_over_ranks(ranks_, {stats.bytes_same_rank, stats.bytes_mapped, stats.bytes_sent});
    result->bytes_same_rank = sums[0];
    result->bytes_mapped = sums[1];
    result->bytes_sent = sums[2];
    reshard_driver_t driver = RESHARD_DRIVER_POLL;
    const char* reason = nullptr;
    check(reshard_binding_get_driver(binding, &driver, &reason), "asking for the driver");
    result->driver = driver == RESHARD_DRIVER_NCCL ? "nccl" : "poll";
    result->driver_reason = reason;
    const auto most = max_over_ranks(ranks_, {static_cast<double>(stats.staging_bytes)});
    result->staging_allocated_bytes = static_cast<std::int64_t>(most[0]);
    progress_.step("plain memory copies");
    // Ranks that receive nothing make no copies: the bound is the speed of memory that the receivers share among
    // themselves.
    const bool receives = stats.bytes_mapped + stats.bytes_received > 0;
    result->copy_bytes_per_second =
        plain_copy_bytes_per_second(ranks_, choose_memory(options_, ranks_.rank), result->total.bound_bytes, receives);
  }

  /// Times the pattern's tensors as a transfer of their own, in the same memory.
  PatternResult time_pattern(const Pattern& pattern) {
    PatternResult result{pattern.name, static_cast<std::int64_t>(pattern.tensors.size()), {}, 0, 0};
    if (!times_patterns()) return result;
    std::vector<std::int64_t> src_tensors;
    std::vector<std::int64_t> dst_tensors;
    for (const std::size_t tensor : pattern.tensors) {
      if (tensors_[tensor].is_skipped()) continue;
      src_tensors.push_back(tensors_[tensor].src_index);
      dst_tensors.push_back(tensors_[tensor].dst_index);
    }
    if (src_tensors.empty()) return result;
    const SubLayout src = extract_tensors(job_.src.get(), src_tensors, ranks_.rank, *src_);
    const SubLayout dst = extract_tensors(job_.dst.get(), dst_tensors, ranks_.rank, *dst_);
    const Plan plan = make_plan(src.layout.get(), dst.layout.get(), plan_options(options_.job, job_));
    const std::int32_t device = choose_memory(options_, ranks_.rank).device;
    const Binding binding = make_binding(ranks_, options_.transport, device, plan.get(), src.buffers, dst.buffers);
    result.timing = time_binding(pattern.name, plan.get(), binding.get());
    barrier(ranks_);
    return result;
  }

  /// Runs into a poisoned destination and adds what is wrong there. Without a check the last run still starts from
  /// poison, so that a dump shows what this run wrote and nothing else.
  void check_runs(reshard_binding_t binding, LiveResult* result) {
    // All counts in one vector, so that one sum over the ranks does for all.
    std::vector<std::int64_t> counts(2 * patterns_.size() + 1, 0);
    for (int i = 0; i < std::max(options_.num_checks, options_.dump.empty() ? 0 : 1); ++i) {
      progress_.step("checked run");
      dst_->poison();
      barrier(ranks_);
      run_once(ranks_, binding);
      if (i < options_.num_checks) add_check(&counts);
    }
    counts = sum_over_ranks(ranks_, counts);
    for (std::size_t p = 0; p < patterns_.size(); ++p) {
      result->patterns[p].num_checked = counts[2 * p];
      result->patterns[p].num_wrong = counts[2 * p + 1];
      result->num_checked += counts[2 * p];
      result->num_wrong += counts[2 * p + 1];
    }
    result->num_damaged_guards = counts.back();
  }

  /// counts: per pattern the elements compared and the wrong ones, then the damaged guard zones.
  void add_check(std::vector<std::int64_t>* counts) {
    progress_.step("checking every element");
    src_->fetch();
    dst_->fetch();
    const std::vector<CheckCount> checked =
        check_destination({job_.dst.get(), ranks_.rank, values_.get()}, tensors_, *dst_);
    for (std::size_t p = 0; p < patterns_.size(); ++p) {
      for (const std::size_t tensor : patterns_[p].tensors) {
        (*counts)[2 * p] += checked[tensor].num_elements;
        (*counts)[2 * p + 1] += checked[tensor].num_wrong;
      }
    }
    for (const Arena* arena : {src_.get(), dst_.get()}) {
      for (const std::string& place : arena->damaged_guards()) {
        fmt::print(stderr, "rank {}: the guard zone {} was overwritten\n", ranks_.rank, place);
        ++counts->back();
      }
    }
  }

  const PerfOptions& options_;
  Ranks ranks_;
  Job job_;
  Plan plan_;
  std::vector<TensorPair> tensors_;
  std::unique_ptr<ElementSource> values_;
  std::vector<Pattern> patterns_;
  Progress progress_;
  std::unique_ptr<Arena> src_;
  std::unique_ptr<Arena> dst_;
};

}  // namespace

LiveResult run_rank(const PerfOptions& options, const Ranks& ranks) {
  return RankRun(options, ranks).run();
}

std::int32_t validate_run(const PerfOptions& options) {
  if (options.transport == TransportKind::kNccl && options.memory != RESHARD_MEMORY_CUDA) {
    fail("--transport nccl is for memory of devices: give --memory cuda as well");
  }
  // Planned once more by each rank: a mistake in the options is told once, here, and not by every rank.
  const Job job = make_job(options.job);
  try {
    make_plan(options.job, job);
    make_values(options, pair_tensors(job));
  } catch (const Error&) {
    show_warnings(job, kTool);  // no rank will start that could
    throw;
  }
  return job.num_ranks;
}

}  // namespace reshard::perf
