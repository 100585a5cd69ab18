// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "reshard/reshard.h"

// A transfer through the C boundary alone, and a machine for it.

namespace reshard::testing {

/// Longer than any call takes unless it hangs.
inline constexpr std::int64_t kTimeoutUs = 20'000'000;

/// A layout that frees itself: an empty one, or a model's.
struct LayoutOf {
  explicit LayoutOf(std::int32_t num_ranks = 4);
  explicit LayoutOf(const reshard_model_options_t& options);
  ~LayoutOf() { reshard_layout_destroy(handle); }
  LayoutOf(const LayoutOf&) = delete;
  LayoutOf& operator=(const LayoutOf&) = delete;
  reshard_layout_t handle = nullptr;
};

/// Both sides of a transfer.
struct Sides {
  explicit Sides(const std::string& spec);
  ~Sides();
  Sides(const Sides&) = delete;
  Sides& operator=(const Sides&) = delete;
  reshard_layout_t src = nullptr;
  reshard_layout_t dst = nullptr;
};

/// Three float tensors of 3 groups, rows x cols each. Ranks 0 to 3 hold a quarter each, ranks 4 to 7 want all of it.
std::string replicating_spec(std::int64_t rows, std::int64_t cols);

/// The same with two ranks on each side, halves instead of quarters: for errors about the number of ranks.
std::string small_spec();

struct MachineOf {
  MachineOf(const char* text, const std::vector<std::int32_t>& segments);
  ~MachineOf() { reshard_machine_destroy(handle); }
  MachineOf(const MachineOf&) = delete;
  MachineOf& operator=(const MachineOf&) = delete;
  reshard_machine_t handle = nullptr;
};

struct PlanOf {
  PlanOf(const Sides& sides, reshard_machine_t machine);
  ~PlanOf() { reshard_plan_destroy(handle); }
  PlanOf(const PlanOf&) = delete;
  PlanOf& operator=(const PlanOf&) = delete;
  reshard_plan_info_t info() const;
  std::string report() const;
  reshard_plan_t handle = nullptr;
};

/// Runs body(comm, rank) on a thread of its own for each rank of a local comm, and destroys the comms.
void run_on_local_comms(std::int32_t num_ranks, const std::function<void(reshard_comm_t, std::int32_t)>& body);

/// Binds the plan to this rank's memory and runs it twice with other values; every element is checked. is_mappable:
/// memory of reshard_alloc, which peers read directly where nothing is relayed. Returns the counters.
reshard_binding_stats_t run_and_check(const Sides& sides, reshard_plan_t plan, reshard_comm_t comm, bool is_mappable);

}  // namespace reshard::testing
