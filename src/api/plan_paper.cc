// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <nlohmann/json.hpp>

#include "src/api/error.h"
#include "src/api/handles.h"
#include "src/plan/report/advice.h"
#include "src/plan/report/details.h"

// What is asked of a plan on paper: nothing here is needed to run one.

using namespace reshard;  // NOLINT(google-build-using-namespace): this file is the boundary
using reshard::api::check_not_null;
using reshard::api::guard;

namespace {

// Moments of the timeline: about one per pixel of a small chart.
constexpr std::int32_t kBuckets = 200;

}  // namespace

reshard::Status reshard_plan::simulate() {
  if (plan->options.machine == nullptr) {
    return {RESHARD_ERR_INVALID_STATE, "the plan has no machine to simulate; give one in reshard_plan_options_t"};
  }
  if (simulation.has_value()) return {};
  RESHARD_TRY(simulation, simulate_plan(*plan, kBuckets));
  return {};
}

extern "C" {

reshard_status_t reshard_plan_simulate(reshard_plan_t plan, double* seconds) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(plan, "plan"));
    RESHARD_TRY(check_not_null(seconds, "seconds"));
    RESHARD_TRY(plan->simulate());
    *seconds = plan->simulation->seconds;
    return {};
  });
}

reshard_status_t reshard_plan_details_json(reshard_plan_t plan, int64_t bundle, const char** json) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(plan, "plan"));
    RESHARD_TRY(check_not_null(json, "json"));
    RESHARD_TRY(plan->simulate());
    RESHARD_TRY(plan->details, details_json(*plan->plan, *plan->simulation, bundle));
    *json = plan->details.c_str();
    return {};
  });
}

reshard_status_t reshard_plan_advise_json(reshard_plan_t plan, const char** json) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(plan, "plan"));
    RESHARD_TRY(check_not_null(json, "json"));
    RESHARD_TRY(const Advice advice, advise_ranks(*plan->plan));
    const auto gain = advice.moved_bytes_now == 0 ? 0.0
                                                  : 1.0 - static_cast<double>(advice.moved_bytes_best) /
                                                              static_cast<double>(advice.moved_bytes_now);
    const nlohmann::json out = {{"ranks", advice.ranks},
                                {"takes", advice.takes},
                                {"moved_bytes_now", advice.moved_bytes_now},
                                {"moved_bytes_best", advice.moved_bytes_best},
                                {"network_bytes_now", advice.network_bytes_now},
                                {"network_bytes_best", advice.network_bytes_best},
                                {"gain", gain}};
    plan->advice = out.dump();
    *json = plan->advice.c_str();
    return {};
  });
}

}  // extern "C"
