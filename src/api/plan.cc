// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Plans through the C API. Planning is pure and needs no comm; what a plan is asked for later (counts, estimate,
// report) is computed then and kept in the handle.
#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <sstream>

#include "src/api/error.h"
#include "src/api/handles.h"
#include "src/plan/replan.h"
#include "src/plan/save.h"

using namespace reshard;  // NOLINT(google-build-using-namespace): this file is the boundary
using reshard::api::check_not_null;
using reshard::api::check_struct;
using reshard::api::guard;
using reshard::api::read_versioned;

namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Runs `make`, which returns a Result<Plan>, and wraps the plan with the time it took.
template <typename Make>
Status make_plan(const Make& make, reshard_plan_t* out) {
  const auto begin = std::chrono::steady_clock::now();
  RESHARD_TRY(Plan plan, make());
  auto handle = std::make_unique<reshard_plan>();
  handle->plan = std::make_shared<const Plan>(std::move(plan));
  handle->planning_seconds = seconds_since(begin);
  *out = handle.release();
  return {};
}

/// A C caller may have put any integer into an enum, which must not be read as one before it was looked at.
template <typename Enum>
int integer_of(const Enum& value) {
  int integer = 0;
  static_assert(sizeof(integer) == sizeof(value));
  std::memcpy(&integer, &value, sizeof(integer));
  return integer;
}

/// Options of an older version lack `unmatched`, which then is what it was before there was a choice: refuse.
Status read_options(const reshard_plan_options_t* given, PlanOptions* options) {
  if (given == nullptr) return {};
  RESHARD_TRY(const reshard_plan_options_t copy, read_versioned(given, "reshard_plan_options_t"));
  options->staging_bytes = copy.staging_bytes;
  if (copy.machine != nullptr) options->machine = copy.machine->machine;
  const int order = integer_of(copy.group_order);
  if (order < RESHARD_ORDER_FIXED || order > RESHARD_ORDER_ANY) {
    return invalid_argument(fmt::format("group_order is {}; take one of RESHARD_ORDER_FIXED, _ROTATED, _ANY", order));
  }
  if (copy.open_groups < 0) {
    return invalid_argument(fmt::format("open_groups is {}; 0 is no limit", copy.open_groups));
  }
  const int unmatched = integer_of(copy.unmatched);
  if (unmatched != RESHARD_UNMATCHED_REFUSE && unmatched != RESHARD_UNMATCHED_SKIP) {
    return invalid_argument(
        fmt::format("unmatched is {}; take RESHARD_UNMATCHED_REFUSE or RESHARD_UNMATCHED_SKIP", unmatched));
  }
  options->order = static_cast<GroupOrder>(order);
  options->open_groups = copy.open_groups;
  options->unmatched = static_cast<Unmatched>(unmatched);
  return {};
}

}  // namespace

/// Timed apart from planning: a plan can be run without its estimate, so that its time is not the planner's.
reshard::Status reshard_plan::estimate_time() {
  if (plan->options.machine == nullptr || estimate.has_value()) return {};
  const auto begin = std::chrono::steady_clock::now();
  RESHARD_TRY(estimate, reshard::estimate(*plan));
  estimating_seconds = seconds_since(begin);
  return {};
}

extern "C" {

void reshard_plan_options_init_sized(reshard_plan_options_t* options, size_t struct_size) {
  reshard_plan_options_t defaults{};
  defaults.staging_bytes = PlanOptions().staging_bytes;
  reshard::api::init_struct(options, struct_size, defaults);
}

void reshard_plan_info_init_sized(reshard_plan_info_t* info, size_t struct_size) {
  reshard::api::init_struct(info, struct_size);
}

reshard_status_t reshard_plan_create(reshard_layout_t src, reshard_layout_t dst, const reshard_plan_options_t* options,
                                     reshard_plan_t* plan) {
  if (plan != nullptr) *plan = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(src, "src"));
    RESHARD_TRY(check_not_null(dst, "dst"));
    RESHARD_TRY(check_not_null(plan, "plan"));
    PlanOptions chosen;
    RESHARD_TRY(read_options(options, &chosen));
    return make_plan([&] { return create_plan(src->layout, dst->layout, chosen); }, plan);
  });
}

reshard_status_t reshard_plan_replan(reshard_plan_t old, reshard_layout_t src, reshard_layout_t dst,
                                     reshard_plan_t* plan) {
  if (plan != nullptr) *plan = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(old, "old"));
    RESHARD_TRY(check_not_null(src, "src"));
    RESHARD_TRY(check_not_null(dst, "dst"));
    RESHARD_TRY(check_not_null(plan, "plan"));
    Changes changes;
    RESHARD_TRY(make_plan([&] { return replan(*old->plan, src->layout, dst->layout, &changes); }, plan));
    (*plan)->changes = changes;
    return {};
  });
}

reshard_status_t reshard_plan_update(reshard_plan_t old, reshard_layout_t dst, reshard_plan_t* plan) {
  if (plan != nullptr) *plan = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(old, "old"));
    RESHARD_TRY(check_not_null(dst, "dst"));
    RESHARD_TRY(check_not_null(plan, "plan"));
    Changes changes;
    RESHARD_TRY(make_plan([&] { return update_plan(*old->plan, dst->layout, &changes); }, plan));
    (*plan)->changes = changes;
    return {};
  });
}

void reshard_plan_destroy(reshard_plan_t plan) {
  delete plan;
}

reshard_status_t reshard_plan_get_info(reshard_plan_t plan, reshard_plan_info_t* info) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(plan, "plan"));
    RESHARD_TRY(check_struct(info, "reshard_plan_info_t"));
    const PlanStats& stats = plan->counted();
    info->hash = plan->plan->hash;
    info->num_ranks = plan->plan->num_ranks;
    info->num_tensors = static_cast<int64_t>(plan->plan->tensors.size());
    info->num_groups = static_cast<int64_t>(plan->plan->groups.size());
    info->num_atoms = plan->plan->num_atoms();
    info->num_bundles = static_cast<int64_t>(plan->plan->bundles.size());
    info->num_messages = stats.num_messages;
    info->bytes_crossed = stats.bytes_crossed;
    info->bytes_local = stats.bytes_local;
    info->staging_bytes = stats.staging_bytes;
    info->planning_seconds = plan->planning_seconds;
    RESHARD_TRY(plan->estimate_time());
    info->estimate_seconds = plan->estimate.has_value() ? plan->estimate->seconds : 0;
    info->bound_seconds = plan->estimate.has_value() ? plan->estimate->bound.seconds : 0;
    return {};
  });
}

reshard_status_t reshard_plan_get_group(reshard_plan_t plan, int64_t index, int64_t* group) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(plan, "plan"));
    RESHARD_TRY(check_not_null(group, "group"));
    const auto count = static_cast<int64_t>(plan->plan->groups.size());
    if (index < 0 || index >= count) {
      return invalid_argument(fmt::format("group index {} does not exist; there are {} groups", index, count));
    }
    *group = at(plan->plan->groups, index);
    return {};
  });
}

reshard_status_t reshard_plan_num_unmatched(reshard_plan_t plan, int64_t* num_unmatched) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(plan, "plan"));
    RESHARD_TRY(check_not_null(num_unmatched, "num_unmatched"));
    *num_unmatched = static_cast<int64_t>(plan->plan->only_at_source.size() + plan->plan->only_at_destination.size());
    return {};
  });
}

/// One numbering for both sides: those at the source first.
reshard_status_t reshard_plan_get_unmatched(reshard_plan_t plan, int64_t index, const char** name,
                                            int32_t* is_at_source) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(plan, "plan"));
    const std::vector<std::string>& source = plan->plan->only_at_source;
    const std::vector<std::string>& destination = plan->plan->only_at_destination;
    const auto num_source = static_cast<int64_t>(source.size());
    const auto count = num_source + static_cast<int64_t>(destination.size());
    if (index < 0 || index >= count) {
      return invalid_argument(fmt::format("unmatched tensor {} does not exist; there are {}", index, count));
    }
    const bool is_source = index < num_source;
    if (is_at_source != nullptr) *is_at_source = is_source ? 1 : 0;
    if (name != nullptr) *name = (is_source ? at(source, index) : at(destination, index - num_source)).c_str();
    return {};
  });
}

reshard_status_t reshard_plan_report_json(reshard_plan_t plan, const char** json) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(plan, "plan"));
    RESHARD_TRY(check_not_null(json, "json"));
    RESHARD_TRY(plan->estimate_time());
    PlanReport report{*plan->plan, plan->counted(), plan->estimate.has_value() ? &*plan->estimate : nullptr};
    report.planning_seconds = plan->planning_seconds;
    report.estimating_seconds = plan->estimating_seconds;
    report.changes = plan->changes.has_value() ? &*plan->changes : nullptr;
    report.simulation = plan->simulation.has_value() ? &*plan->simulation : nullptr;
    plan->report = report_json(report);
    *json = plan->report.c_str();
    return {};
  });
}

reshard_status_t reshard_plan_save(reshard_plan_t plan, const char* path) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(plan, "plan"));
    RESHARD_TRY(check_not_null(path, "path"));
    std::ofstream file(path, std::ios::binary);
    file << save_plan(*plan->plan);
    // Closed before it is asked: a full disk may only show when the last bytes are written.
    file.close();
    if (!file) return {RESHARD_ERR_IO, fmt::format("cannot write the plan to \"{}\"", path)};
    return {};
  });
}

reshard_status_t reshard_plan_load(const char* path, reshard_layout_t src, reshard_layout_t dst,
                                   reshard_machine_t machine, reshard_plan_t* plan) {
  if (plan != nullptr) *plan = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(path, "path"));
    RESHARD_TRY(check_not_null(src, "src"));
    RESHARD_TRY(check_not_null(dst, "dst"));
    RESHARD_TRY(check_not_null(plan, "plan"));
    const std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    if (!file) return {RESHARD_ERR_IO, fmt::format("cannot read the plan from \"{}\"", path)};
    return make_plan(
        [&] {
          return load_plan(text.str(), src->layout, dst->layout, machine == nullptr ? nullptr : machine->machine);
        },
        plan);
  });
}

}  // extern "C"
