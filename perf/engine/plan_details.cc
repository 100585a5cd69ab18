// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/plan_details.h"

#include "perf/engine/error.h"

namespace reshard::perf {

double simulate(reshard_plan_t plan) {
  double seconds = 0;
  check(reshard_plan_simulate(plan, &seconds), "simulating the plan");
  return seconds;
}

nlohmann::json plan_details(reshard_plan_t plan, std::int64_t bundle) {
  const char* text = nullptr;
  check(reshard_plan_details_json(plan, bundle, &text), "reading the details of the plan");
  return nlohmann::json::parse(text);
}

nlohmann::json plan_advice(reshard_plan_t plan) {
  const char* text = nullptr;
  check(reshard_plan_advise_json(plan, &text), "looking for a better order of ranks");
  return nlohmann::json::parse(text);
}

nlohmann::json plan_streams(reshard_plan_t plan) {
  nlohmann::json out = nlohmann::json::array();
  for (const std::int32_t nccl_version : {22809, 22907}) {
    const char* text = nullptr;
    check(reshard_plan_stream_json(plan, nccl_version, 0, &text), "counting the stages of the plan");
    out.push_back(nlohmann::json::parse(text));
  }
  return out;
}

}  // namespace reshard::perf
