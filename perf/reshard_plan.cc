// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <exception>

#include "perf/engine/error.h"
#include "perf/engine/job.h"
#include "perf/engine/options.h"
#include "perf/engine/plan_report.h"
#include "perf/engine/report.h"
#include "perf/engine/text.h"

// Plans on paper: see perf/README.md.

namespace reshard::perf {
namespace {

Plan obtain_plan(const PlanToolOptions& options, const Job& job) {
  if (options.load_plan.empty()) return make_plan(options.job, job);
  reshard_plan_t plan = nullptr;
  check(reshard_plan_load(options.load_plan.c_str(), job.src.get(), job.dst.get(), job.machine.get(), &plan),
        "loading the plan");
  return Plan(plan);
}

void run(const PlanToolOptions& options) {
  const Job job = make_job(options.job);
  const Plan plan = obtain_plan(options, job);
  if (!options.save.empty()) check(reshard_plan_save(plan.get(), options.save.c_str()), "saving the plan");
  const nlohmann::json report = plan_report_json(options.job, plan_report(plan.get()), job.layout_seconds);
  fmt::print("{}", plan_report_text(options.job, report));
  if (!options.job.json.empty()) write_text_file(options.job.json, report.dump(2) + "\n");
}

}  // namespace
}  // namespace reshard::perf

int main(int argc, char** argv) {
  using namespace reshard::perf;
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
