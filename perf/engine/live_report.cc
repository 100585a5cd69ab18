// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>

#include <algorithm>

#include "perf/engine/job.h"
#include "perf/engine/plan_report.h"
#include "perf/engine/report.h"
#include "perf/engine/statistics.h"
#include "perf/engine/text.h"

namespace reshard::perf {
namespace {

using nlohmann::json;

// Printed with the table, because a ratio whose denominator is not said can mean anything.
constexpr const char* kBoundMeaning =
    "of bound: time that a plain memory copy (memcpy) of the busiest receiver's unavoidable bytes takes when every\n"
    "receiving rank makes one at the same time, measured in this run, divided by the median; 1.00 is that speed.\n";

double quotient(std::int64_t bytes, double by) {
  return by > 0 ? static_cast<double>(bytes) / by : 0;
}

/// Time of the plain copies that the bound stands for, over the time taken; 0 where nothing has to cross.
double bound_ratio(const Timing& timing, double copy_bytes_per_second) {
  const double seconds = median(timing.run_seconds);
  if (copy_bytes_per_second == 0 || seconds == 0) return 0;
  return static_cast<double>(timing.bound_bytes) / copy_bytes_per_second / seconds;
}

std::string table_row(const PatternResult& row, const LiveResult& result, std::size_t name_columns) {
  const double seconds = median(row.timing.run_seconds);
  const double ratio = bound_ratio(row.timing, result.copy_bytes_per_second);
  if (row.timing.run_seconds.empty()) {
    return fmt::format("{:<{}} {:>8} {:>12} {:>10} {:>10} {:>8} {:>9} {:>10}\n", row.name, name_columns,
                       row.num_tensors, "-", "-", "-", "-", "-", row.num_wrong);
  }
  return fmt::format("{:<{}} {:>8} {:>12} {:>10.3f} {:>10.3f} {:>8.2f} {:>9} {:>10}\n", row.name, name_columns,
                     row.num_tensors, format_bytes(row.timing.bytes_crossed), seconds * 1e3,
                     percentile(row.timing.run_seconds, 0.99) * 1e3, quotient(row.timing.bytes_crossed, seconds) / 1e9,
                     row.timing.bound_bytes == 0 ? "-" : fmt::format("{:.2f}", ratio), row.num_wrong);
}

const char* buffers_text(const PerfOptions& options) {
  if (options.memory != RESHARD_MEMORY_HOST) return "CUDA devices";
  return options.use_heap ? "the heap" : "reshard_alloc";
}

std::string header_text(const PerfOptions& options, const LiveResult& result) {
  const json& plan = result.plan_report;
  const double copy_seconds = quotient(result.total.bound_bytes, result.copy_bytes_per_second);
  std::string text = fmt::format("{}\n{}\n", reshard_build_info(), describe_job(options.job));
  text += fmt::format("ranks: {} over {}, buffers from {}, staging at most {} a rank, {} used\n", result.num_ranks,
                      name_of(options.transport), buffers_text(options), format_bytes(options.job.staging_bytes),
                      format_bytes(result.staging_allocated_bytes));
  text += fmt::format("driver: {}, {}\n", result.driver, result.driver_reason);
  text += fmt::format("plan: {} bundles, {} messages, made in {:.3f} ms\n", plan.at("bundles").dump(),
                      plan.at("messages").dump(), plan.at("planning_seconds").get<double>() * 1e3);
  text += skipped_text(plan);
  text += fmt::format("bytes a run: {} within ranks, {} mapped, {} sent\n", format_bytes(result.bytes_same_rank),
                      format_bytes(result.bytes_mapped), format_bytes(result.bytes_sent));
  text += fmt::format("bound: the busiest rank must receive {}; plain copies of that took {:.3f} ms here\n\n",
                      format_bytes(result.total.bound_bytes), copy_seconds * 1e3);
  return text;
}

json timing_json(const Timing& timing, double copy_bytes_per_second) {
  const double seconds = median(timing.run_seconds);
  return {{"bytes_crossed", timing.bytes_crossed},
          {"run_seconds",
           {{"median", seconds}, {"p99", percentile(timing.run_seconds, 0.99)}, {"samples", timing.run_seconds}}},
          {"algorithm_bytes_per_second", quotient(timing.bytes_crossed, seconds)},
          {"bound_bytes_per_second", quotient(timing.bound_bytes, seconds)},
          {"bound_ratio", bound_ratio(timing, copy_bytes_per_second)}};
}

}  // namespace

std::string live_report_text(const PerfOptions& options, const LiveResult& result) {
  std::size_t name_columns = 8;
  for (const PatternResult& pattern : result.patterns) name_columns = std::max(name_columns, pattern.name.size());
  std::string text = header_text(options, result);
  text += fmt::format("{:<{}} {:>8} {:>12} {:>10} {:>10} {:>8} {:>9} {:>10}\n", "pattern", name_columns, "tensors",
                      "crossed", "median ms", "p99 ms", "GB/s", "of bound", "wrong");
  PatternResult total{"total", 0, result.total, result.num_checked, result.num_wrong};
  for (const PatternResult& pattern : result.patterns) {
    text += table_row(pattern, result, name_columns);
    total.num_tensors += pattern.num_tensors;
  }
  text += table_row(total, result, name_columns) + "\n";
  if (result.copy_bytes_per_second > 0) text += kBoundMeaning;
  if (options.num_checks == 0) return text + "nothing was checked (--check 0)\n";
  return text + fmt::format("checked {} elements: {} wrong; {} guard zones damaged\n", result.num_checked,
                            result.num_wrong, result.num_damaged_guards);
}

json live_report_json(const PerfOptions& options, const LiveResult& result) {
  json report = plan_report_json(options.job, result.plan_report, result.layout_seconds);
  report["tool"] = "reshard_perf";
  report["warnings"] = result.warnings;
  report["peak_rss_bytes"] = result.peak_rss_bytes;
  report["transport"] = name_of(options.transport);
  report["threads"] = options.ranks_are_threads;
  report["driver"] = result.driver;
  report["driver_reason"] = result.driver_reason;
  report["memory"] = options.memory == RESHARD_MEMORY_HOST ? "host" : "cuda";
  report["alloc"] = options.use_heap ? "heap" : "reshard";
  report["warmups"] = options.num_warmups;
  report["runs"] = options.num_runs;
  report["checks"] = options.num_checks;
  report.update(timing_json(result.total, result.copy_bytes_per_second));
  report["copy_bytes_per_second"] = result.copy_bytes_per_second;
  report["bytes"] = {
      {"same_rank", result.bytes_same_rank}, {"mapped", result.bytes_mapped}, {"sent", result.bytes_sent}};
  report["staging_allocated_bytes"] = result.staging_allocated_bytes;
  report["checked_elements"] = result.num_checked;
  report["wrong_elements"] = result.num_wrong;
  report["damaged_guards"] = result.num_damaged_guards;
  report["patterns"] = json::array();
  for (const PatternResult& pattern : result.patterns) {
    json entry = {{"pattern", pattern.name},
                  {"tensors", pattern.num_tensors},
                  {"checked_elements", pattern.num_checked},
                  {"wrong_elements", pattern.num_wrong}};
    if (!pattern.timing.run_seconds.empty()) {
      entry.update(timing_json(pattern.timing, result.copy_bytes_per_second));
      entry["receivers"]["bound_bytes"] = pattern.timing.bound_bytes;
    }
    report["patterns"].push_back(std::move(entry));
  }
  return report;
}

}  // namespace reshard::perf
