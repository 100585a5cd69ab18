// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/plan_details.h"

#include "perf/engine/error.h"

// Weak until the library has them: delete these three lines, and library_has() below, once the header declares them.
extern "C" reshard_status_t reshard_plan_simulate(reshard_plan_t, double*) __attribute__((weak));
extern "C" reshard_status_t reshard_plan_details_json(reshard_plan_t, int64_t, const char**) __attribute__((weak));
extern "C" reshard_status_t reshard_plan_advise_json(reshard_plan_t, const char**) __attribute__((weak));

namespace reshard::perf {
namespace {

template <typename Function>
void library_has(Function* function, const char* what) {
  if (function == nullptr) fail("the library that is loaded cannot {}", what);
}

}  // namespace

double simulate(reshard_plan_t plan) {
  library_has(&reshard_plan_simulate, "simulate a plan");
  double seconds = 0;
  check(reshard_plan_simulate(plan, &seconds), "simulating the plan");
  return seconds;
}

nlohmann::json plan_details(reshard_plan_t plan, std::int64_t bundle) {
  library_has(&reshard_plan_details_json, "give the details of a plan");
  const char* text = nullptr;
  check(reshard_plan_details_json(plan, bundle, &text), "reading the details of the plan");
  return nlohmann::json::parse(text);
}

nlohmann::json plan_advice(reshard_plan_t plan) {
  library_has(&reshard_plan_advise_json, "advise on an order of ranks");
  const char* text = nullptr;
  check(reshard_plan_advise_json(plan, &text), "looking for a better order of ranks");
  return nlohmann::json::parse(text);
}

}  // namespace reshard::perf
