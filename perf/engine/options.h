// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What the command lines say, as plain values. What a value alone shows to be wrong is refused as it is parsed; what
// only layouts and plans show, by validate_run().
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "reshard/reshard.h"

namespace reshard::perf {

/// What is moved: the options that both tools take.
struct JobOptions {
  std::string model;            ///< config.json or the name of a known model
  std::string from;             ///< layout text of the source
  std::string to;               ///< layout text of the destination
  std::string spec;             ///< file in the general form, in place of the three above
  std::int64_t num_layers = 0;  ///< first N decoder layers; 0: all
  bool colocated = false;       ///< both sides on the same ranks
  std::int64_t staging_bytes = std::int64_t{64} << 20;
  std::string cluster;  ///< what joins the ranks: a preset with settings, or a file; empty: unknown
  reshard_group_order_t group_order = RESHARD_ORDER_FIXED;
  std::int64_t open_groups = 0;  ///< most groups open on a rank at once; 0: no limit
  bool skip_unmatched = false;   ///< tensors that one side alone has are left as they are
  std::string json;              ///< file that the results are written to as JSON; empty: none
};

enum class TransportKind { kUcx, kLocal, kNccl, kAuto };

/// Command line of reshard_perf.
struct PerfOptions {
  JobOptions job;
  TransportKind transport = TransportKind::kUcx;
  bool ranks_are_threads = false;  ///< of one process, whatever moves the bytes
  int num_warmups = 2;
  int num_runs = 10;
  int num_checks = 1;
  bool time_patterns = true;
  reshard_memory_kind_t memory = RESHARD_MEMORY_HOST;
  bool use_heap = false;        ///< ordinary memory instead of reshard_alloc
  std::string load;             ///< safetensors file that the source comes from
  std::string dump;             ///< folder that destination ranks are written to
  std::int64_t timeout_us = 0;  ///< on every wait
  std::string net_devices;      ///< with commas; the ranks of a host take them in turn
  bool start_ranks = false;     ///< here, whatever a launcher's variables say
};

/// "ucx", "local", "nccl", "auto"
const char* name_of(TransportKind kind);

/// Command line of reshard_plan.
struct PlanToolOptions {
  JobOptions job;
  std::vector<std::int32_t> lost;  ///< destination ranks that are lost: planned again around what stays
  bool anew = false;               ///< after the loss plan as if there had been no plan, to compare
  std::string save;                ///< file that the plan is written to; empty: none, as for the others
  std::string load;                ///< file that the plan is read from, instead of planning
  bool simulate = false;           ///< run the plan in the simulation of the machine
  bool advise = false;             ///< look for an order of the destination's ranks that moves fewer bytes
  bool count_streams = true;       ///< say what the plan takes as a whole in streams; most of the time of large plans
  std::string html;                ///< file that the page is written to
  std::string trace;               ///< file that the simulated flows are written to, for a trace viewer
  std::int64_t bundle = -1;        ///< whose routes the page draws; -1: the largest that crosses the network
};

/// Parse a command line. A value is the exit code of a program that must stop: help was shown, or an error.
std::optional<int> parse_options(int argc, char** argv, PerfOptions* options);
std::optional<int> parse_options(int argc, char** argv, PlanToolOptions* options);

}  // namespace reshard::perf
