// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A plan on paper: what each direction asks of the ranks, without a machine and without moving a byte.
#include <fmt/format.h>

#include "perf/engine/job.h"
#include "perf/engine/plan_report.h"
#include "perf/engine/report.h"
#include "perf/engine/text.h"

namespace reshard::perf {
namespace {

using nlohmann::json;

std::string line(const char* label, const std::string& value) {
  return fmt::format("  {:<22} {}\n", label, value);
}

/// What one direction asks of the ranks that take part in it.
std::string side_line(const char* label, const json& side) {
  return fmt::format("  {:<22} {:>12} {:>12} {:>9.3f} {:>12} {:>8} {:>8}\n", label, bytes_text(side.at("max_bytes")),
                     bytes_text(side.at("mean_bytes")), side.at("max_over_mean").get<double>(),
                     bytes_text(side.at("bound_bytes")), side.at("ranks").dump(), side.at("used").dump());
}

std::string histogram_text(const json& buckets) {
  std::string text;
  for (const json& bucket : buckets) {
    text += fmt::format("    up to {:>12} {:>12}\n", bytes_text(bucket.at("up_to_bytes")), bucket.at("count").dump());
  }
  return text;
}

/// Why rounds are cut as they are.
std::string cut_text(const json& of) {
  if (of.at("cut_for") == "none") return "no round is cut";
  const std::string why = of.at("cut_for") == "staging" ? "to fit the staging" : "to keep groups small";
  if (of.at("is_window_by_window").get<bool>()) return "every window by itself, " + why;
  return fmt::format("rounds in up to {} parts, {}", of.at("most_parts_of_a_round").dump(), why);
}

std::string nccl_text(std::int32_t version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

/// What the rank with most operations does where all is given to streams at once.
std::string stream_text(const json& of) {
  const json& rank = of.at("ranks").at(0);
  const auto limit = of.at("operations_limit").get<std::int64_t>();
  std::string text = line(
      fmt::format("streams, NCCL {}", nccl_text(of.at("nccl_version").get<std::int32_t>())).c_str(),
      fmt::format("rank {}: {} operations in {} groups of at most {}{}, {} windows", rank.at("rank").dump(),
                  rank.at("operations").dump(), rank.at("groups").dump(), rank.at("most_operations_per_group").dump(),
                  limit == 0 ? "" : fmt::format(" ({} allowed)", limit), rank.at("windows").dump()));
  text += line(
      "", fmt::format("{} stages of {} rounds, {}", rank.at("stages").dump(), rank.at("rounds").dump(), cut_text(of)));
  text += line("", fmt::format("{} launches, at most {} of copies in a stage; {} of staging of {}",
                               rank.at("launches").dump(), rank.at("most_launches_per_stage").dump(),
                               bytes_text(rank.at("staging_bytes")), bytes_text(of.at("staging_budget_bytes"))));
  return text;
}

/// With each version of NCCL that was asked about.
std::string streams_text(const json& streams) {
  std::string text;
  for (const json& of : streams) {
    if (!of.at("ranks").empty()) text += stream_text(of);
  }
  if (!text.empty() && !streams.at(0).at("has_all_ranks").get<bool>())
    text += line("", "counted on the ranks that send and that receive most; others may need finer cuts");
  return text;
}

/// Where 8-bit floats are made, or are made something else again; each kind of tensor in two lines.
std::string quantised_text(const json& entries) {
  std::string text = "\n  converted\n";
  std::int64_t crossed = 0;
  std::int64_t as_bf16 = 0;
  for (const json& entry : entries) {
    crossed += entry.at("bytes_crossed").get<std::int64_t>();
    as_bf16 += entry.at("bytes_crossed_as_bf16").get<std::int64_t>();
    const char* scales = entry.at("given").get<bool>() ? "given" : "computed";
    text += fmt::format("    {} ({}): {} to {}, scales {} {}, at the {}:\n      {}\n",
                        entry.at("pattern").get<std::string>(), entry.at("tensors").dump(),
                        entry.at("from").get<std::string>(), entry.at("to").get<std::string>(),
                        entry.at("scales").get<std::string>(), scales, entry.at("place").get<std::string>(),
                        entry.at("why").get<std::string>());
  }
  if (as_bf16 == 0) return text;
  return text + line("  across ranks",
                     fmt::format("{} with scales; {:.3f} of the {} that BF16 is", format_bytes(crossed),
                                 static_cast<double>(crossed) / static_cast<double>(as_bf16), format_bytes(as_bf16)));
}

}  // namespace

nlohmann::json plan_report_json(const JobOptions& options, json plan, double layout_seconds) {
  plan["version"] = 1;
  plan["tool"] = "reshard_plan";
  plan["reshard"] = reshard_version();
  plan["build"] = reshard_build_info();
  plan["job"] = describe_job(options);
  plan["layout_seconds"] = layout_seconds;
  plan["peak_rss_bytes"] = peak_rss_bytes();
  return plan;
}

std::string plan_report_text(const JobOptions& options, const json& report) {
  std::string text = fmt::format("{}\n", describe_job(options));
  const bool has_machine = report.contains("estimate_seconds");
  if (has_machine) text += line("machine", machine_line(report));
  text += line("ranks", report.at("ranks").dump());
  text += line("tensors", fmt::format("{} in {} groups", report.at("tensors").dump(), report.at("groups").dump()));
  text += skipped_text(report);
  text += line("bytes across ranks", bytes_text(report.at("bytes_crossed")));
  text += line("bytes within ranks", bytes_text(report.at("bytes_local")));
  text += fmt::format("\n  {:<22} {:>12} {:>12} {:>9} {:>12} {:>8} {:>8}\n", "bytes per rank", "max", "mean",
                      "max/mean", "lower bound", "ranks", "used");
  text += side_line("sent", report.at("senders"));
  text += side_line("received", report.at("receivers"));
  text += line("busiest rank", bytes_text(report.at("bound_bytes")) + " cannot be avoided, whatever the plan");
  if (report.contains("quantised")) text += quantised_text(report.at("quantised"));
  if (has_machine) text += machine_report_text(report);
  text += "\n" + line("atoms, bundles", fmt::format("{}, {}", report.at("atoms").dump(), report.at("bundles").dump()));
  text += line("messages", report.at("messages").dump());
  text += histogram_text(report.at("message_sizes"));
  text += line("staging, windows",
               fmt::format("{} of {}, {} each", bytes_text(report.at("staging_bytes")),
                           bytes_text(report.at("staging_budget_bytes")), bytes_text(report.at("window_bytes"))));
  if (report.contains("streams")) text += streams_text(report.at("streams"));
  if (report.contains("peak_memory_bytes"))
    text += line("peak memory of a rank", bytes_text(report.at("peak_memory_bytes")));
  text += "\n" + line("layouts took", format_seconds(report.at("layout_seconds").get<double>()));
  text += line("planning took", format_seconds(report.at("planning_seconds").get<double>()));
  if (has_machine) text += line("estimating took", format_seconds(report.at("estimating_seconds").get<double>()));
  text += line("most memory resident", bytes_text(report.at("peak_rss_bytes")));
  if (report.contains("replanned")) {
    const json& changed = report.at("replanned");
    text +=
        line("changed by the loss", fmt::format("{} of {} bundles, {} of {}", changed.at("bundles_changed").dump(),
                                                changed.at("bundles").dump(), bytes_text(changed.at("bytes_changed")),
                                                bytes_text(changed.at("bytes"))));
    text +=
        line("on other trees", fmt::format("{} of {}, each byte counted once", bytes_text(changed.at("rerouted_bytes")),
                                           bytes_text(changed.at("routed_bytes"))));
  }
  text += line("plan hash", report.at("hash").get<std::string>());
  return text;
}

}  // namespace reshard::perf
