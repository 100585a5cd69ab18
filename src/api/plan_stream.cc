// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "src/api/error.h"
#include "src/api/handles.h"
#include "src/exec/stage_report.h"
#include "src/transport/nccl/library.h"

// What a run of a plan would take that is given to streams and NCCL as a whole: counted on paper.

using namespace reshard;  // NOLINT(google-build-using-namespace): this file is the boundary
using reshard::api::check_not_null;
using reshard::api::guard;

namespace {

constexpr std::int32_t kOldestVersion = 22800;
constexpr std::int32_t kDefaultMaxCtas = 32;  // of a binding, where groups are limited

nlohmann::json counts_json(const StageCounts& counts) {
  return {{"rank", counts.rank},
          {"windows", counts.num_windows},
          {"operations", counts.num_operations},
          {"reads", counts.num_reads},
          {"rounds", counts.num_rounds},
          {"stages", counts.num_stages},
          {"groups", counts.num_groups},
          {"most_operations_per_group", counts.most_operations},
          {"launches", counts.num_launches},
          {"most_launches_per_stage", counts.most_launches},
          {"staging_bytes", counts.staging_bytes}};
}

/// What asks for rounds to be cut as finely as they are.
const char* reason_of(const StageReport& report) {
  if (report.highest_level <= kRoundLevel) return "none";
  return report.highest_level > report.level_for_staging ? "operations" : "staging";
}

nlohmann::json stream_json(const StageReport& report, const Plan& plan) {
  nlohmann::json ranks = nlohmann::json::array();
  for (const StageCounts& counts : report.ranks) ranks.push_back(counts_json(counts));
  return {{"ranks", ranks},
          {"most_parts_of_a_round", std::int64_t{1} << std::max(0, report.highest_level - kRoundLevel)},
          {"is_window_by_window", report.highest_level == kLastLevel},
          {"cut_for", reason_of(report)},
          {"staging_budget_bytes", plan.options.staging_bytes}};
}

}  // namespace

extern "C" {

reshard_status_t reshard_plan_stream_json(reshard_plan_t plan, int32_t nccl_version, int32_t max_ctas,
                                          const char** json) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(plan, "plan"));
    RESHARD_TRY(check_not_null(json, "json"));
    if (nccl_version < kOldestVersion) {
      return {
          RESHARD_ERR_INVALID_ARGUMENT,
          fmt::format("nccl_version {} is older than 2.28; give it as NCCL codes it, 22809 for 2.28.9", nccl_version)};
    }
    if (max_ctas < 0) {
      return {RESHARD_ERR_INVALID_ARGUMENT,
              fmt::format("max_ctas is {}; give at least 1, or 0 for what a binding takes", max_ctas)};
    }
    const std::int64_t most = nccl_max_group_operations(nccl_version, max_ctas == 0 ? kDefaultMaxCtas : max_ctas);
    if (!plan->stages.has_value()) plan->stages.emplace(plan->plan);
    nlohmann::json out = stream_json(plan->stages->count(static_cast<std::int32_t>(most)), *plan->plan);
    out["nccl_version"] = nccl_version;
    out["has_all_ranks"] = plan->stages->has_all_ranks();
    out["operations_limit"] = most;
    plan->stream = out.dump();
    *json = plan->stream.c_str();
    return {};
  });
}

}  // extern "C"
