// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Machines from a text: a preset, or a cluster file. Those that ranks find for themselves are made in
// machine_discover.cc. What was read but is doubtful does not fail: it stays with the machine as warnings, which the
// caller should show.
#include <fmt/format.h>

#include "src/api/error.h"
#include "src/api/handles.h"
#include "src/base/at.h"
#include "topology/cluster.h"
#include "topology/machine_report.h"

using namespace reshard;  // NOLINT(google-build-using-namespace): this file is the boundary
using reshard::api::check_not_null;
using reshard::api::guard;

extern "C" {

reshard_status_t reshard_machine_create(const char* text, int32_t num_segments, const int32_t* segments,
                                        reshard_machine_t* machine) {
  if (machine != nullptr) *machine = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(text, "text"));
    RESHARD_TRY(check_not_null(segments, "segments"));
    RESHARD_TRY(check_not_null(machine, "machine"));
    if (num_segments < 1) return invalid_argument(fmt::format("num_segments is {}; give at least one", num_segments));
    RESHARD_TRY(const ClusterSpec spec, parse_cluster(text));
    RESHARD_TRY(Machine made, make_machine(spec, {segments, segments + num_segments}));
    auto handle = std::make_unique<reshard_machine>();
    handle->warnings = spec.warnings;
    handle->machine = std::make_shared<const Machine>(std::move(made));
    *machine = handle.release();
    return {};
  });
}

void reshard_machine_destroy(reshard_machine_t machine) {
  delete machine;
}

reshard_status_t reshard_machine_num_ranks(reshard_machine_t machine, int32_t* num_ranks) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(machine, "machine"));
    RESHARD_TRY(check_not_null(num_ranks, "num_ranks"));
    *num_ranks = machine->machine->num_ranks();
    return {};
  });
}

reshard_status_t reshard_machine_num_warnings(reshard_machine_t machine, int32_t* num_warnings) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(machine, "machine"));
    RESHARD_TRY(check_not_null(num_warnings, "num_warnings"));
    *num_warnings = static_cast<std::int32_t>(machine->warnings.size());
    return {};
  });
}

reshard_status_t reshard_machine_get_warning(reshard_machine_t machine, int32_t index, const char** warning) {
  if (warning != nullptr) *warning = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(machine, "machine"));
    RESHARD_TRY(check_not_null(warning, "warning"));
    if (index < 0 || static_cast<std::size_t>(index) >= machine->warnings.size()) {
      return invalid_argument(fmt::format("warning {} of {}", index, machine->warnings.size()));
    }
    *warning = at(machine->warnings, index).c_str();
    return {};
  });
}

reshard_status_t reshard_machine_report_json(reshard_machine_t machine, const char** json) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(machine, "machine"));
    RESHARD_TRY(check_not_null(json, "json"));
    machine->report = machine_json(*machine->machine, machine->warnings);
    *json = machine->report.c_str();
    return {};
  });
}

}  // extern "C"
