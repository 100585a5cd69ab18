// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <exception>

#include "perf/engine/error.h"
#include "perf/engine/job.h"
#include "perf/engine/options.h"
#include "perf/engine/output.h"
#include "perf/engine/plan_details.h"
#include "perf/engine/plan_layouts.h"
#include "perf/engine/plan_page.h"
#include "perf/engine/plan_report.h"
#include "perf/engine/plan_trace.h"
#include "perf/engine/report.h"

// Plans on paper: see perf/README.md.

namespace reshard::perf {
namespace {

Plan obtain_plan(const PlanToolOptions& options, const Job& job) {
  if (options.load.empty()) return make_plan(options.job, job);
  reshard_plan_t plan = nullptr;
  check(reshard_plan_load(options.load.c_str(), job.src.get(), job.dst.get(), job.machine.get(), &plan),
        "loading the plan");
  return Plan(plan);
}

/// The plan after the loss of some ranks, made around the plan that was there, or anew. The job is then without them,
/// too.
Plan plan_without(const std::vector<std::int32_t>& lost, const PlanToolOptions& options, Plan plan, Job* whole) {
  if (lost.empty()) return plan;
  Job job = make_job(options.job);
  check(reshard_layout_remove_ranks(job.dst.get(), static_cast<std::int32_t>(lost.size()), lost.data()),
        "removing the lost ranks");
  if (options.anew) {
    *whole = std::move(job);
    return make_plan(options.job, *whole);
  }
  reshard_plan_t changed = nullptr;
  check(reshard_plan_replan(plan.get(), job.src.get(), job.dst.get(), &changed), "planning without the lost ranks");
  *whole = std::move(job);
  return Plan(changed);
}

/// The library's report and what was asked for beside it.
nlohmann::json make_report(const PlanToolOptions& options, const Job& job, reshard_plan_t plan) {
  // The report tells the simulated time once the plan was simulated.
  if (options.simulate) simulate(plan);
  nlohmann::json report = plan_report_json(options.job, plan_report(plan), job.layout_seconds);
  if (options.count_streams) report["streams"] = plan_streams(plan);
  report["warnings"] = job.warnings;
  if (options.advise) report["advice"] = plan_advice(plan);
  return report;
}

/// All files that the command line names.
struct Outputs {
  OutputFile json;
  OutputFile html;
  OutputFile trace;

  explicit Outputs(const PlanToolOptions& options) : json(options.job.json), html(options.html), trace(options.trace) {}
};

void write_details(const PlanToolOptions& options, const Job& job, reshard_plan_t plan, const nlohmann::json& report,
                   Outputs* outputs) {
  if (!outputs->html.is_wanted() && !outputs->trace.is_wanted()) return;
  const nlohmann::json details = plan_details(plan, options.bundle);
  if (outputs->html.is_wanted()) {
    outputs->html.write(plan_page(report, details, layout_pictures(job.src.get(), job.dst.get())));
  }
  if (outputs->trace.is_wanted()) outputs->trace.write(json_text(plan_trace(details)));
}

void run(const PlanToolOptions& options) {
  Outputs outputs(options);
  Job job = make_job(options.job);
  show_warnings(job, "reshard_plan");
  const Plan plan = plan_without(options.lost, options, obtain_plan(options, job), &job);
  if (!options.save.empty()) check(reshard_plan_save(plan.get(), options.save.c_str()), "saving the plan");
  const nlohmann::json report = make_report(options, job, plan.get());
  print_report(plan_report_text(options.job, report));
  outputs.json.write(json_text(report, 2) + "\n");
  write_details(options, job, plan.get(), report, &outputs);
}

}  // namespace
}  // namespace reshard::perf

int main(int argc, char** argv) {
  using namespace reshard::perf;
  reserve_standard_streams();
  try {
    PlanToolOptions options;
    if (const auto exit_code = parse_options(argc, argv, &options)) return *exit_code;
    run(options);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "reshard_plan: {}\n", error.what());
    return 1;
  }
}
