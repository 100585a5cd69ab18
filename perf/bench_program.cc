// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Time and memory of building one rank's schedule of a plan and giving it addresses, in one thread, with addresses that
// nothing lies behind.
//
//   bench_program --model FILE --from LAYOUT --to LAYOUT [--layers N] [--colocated] [--cluster TEXT] [--rank N]...
//                 [--mapped N] [--json FILE]
//
// FILE is a Hugging Face config.json, the rest is as in reshard_plan. --rank may be repeated; without it the first rank
// of the source and the first of the destination are measured, one program after the other. --mapped N: ranks lie N to
// a host and read each other's memory there.
//
// Memory is the growth of the resident set, in megabytes of 10^6 bytes: `peak_mb` at most while the program is built,
// `kept_mb` once it is. The staging is allocated, but no page of it is touched, so that it does not count.
//
// JSON, version 1: plan_seconds, and `programs`, a list of {rank, seconds, schedule_seconds, peak_mb,
// kept_mb, messages, copies}; `seconds` is all of it, `schedule_seconds` the part without addresses.
#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "perf/thread_seconds.h"
#include "src/exec/bound_schedule.h"
#include "src/model/model.h"
#include "topology/cluster.h"

namespace reshard {
namespace {

struct Options {
  std::string model;
  std::string from;
  std::string to;
  std::string cluster;
  std::string json_path;
  std::int64_t num_layers = 0;
  std::int32_t ranks_per_host = 1;
  bool colocated = false;
  std::vector<std::int32_t> ranks;
};

bool parse(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--colocated") {
      options->colocated = true;
      continue;
    }
    if (++i == argc) return false;
    const std::string value = argv[i];
    if (name == "--model") {
      options->model = value;
    } else if (name == "--from") {
      options->from = value;
    } else if (name == "--to") {
      options->to = value;
    } else if (name == "--cluster") {
      options->cluster = value;
    } else if (name == "--json") {
      options->json_path = value;
    } else if (name == "--layers") {
      options->num_layers = std::atoll(value.c_str());
    } else if (name == "--mapped") {
      options->ranks_per_host = std::atoi(value.c_str());
    } else if (name == "--rank") {
      options->ranks.push_back(std::atoi(value.c_str()));
    } else {
      return false;
    }
  }
  return !options->model.empty() && !options->from.empty() && !options->to.empty() && options->ranks_per_host > 0;
}

/// VmRSS or VmHWM of this process, in megabytes.
double resident_mb(const char* key) {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.compare(0, std::strlen(key), key) == 0) return std::stod(line.substr(std::strlen(key) + 1)) * 1024 / 1e6;
  }
  return 0;
}

/// From here on VmHWM is the most that is resident after this call. Freed memory is given back first, so that growth
/// cannot hide in it.
void reset_peak() {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << 5;
}

Result<Plan> make_plan(const Options& options, std::int32_t* first_dst) {
  std::ifstream file(options.model);
  if (!file) return Status{RESHARD_ERR_IO, "cannot read " + options.model};
  std::stringstream config;
  config << file.rdbuf();
  RESHARD_TRY(const std::int32_t num_src, layout_text_num_ranks(options.from));
  RESHARD_TRY(const std::int32_t num_dst, layout_text_num_ranks(options.to));
  *first_dst = options.colocated ? 0 : num_src;
  const std::int32_t num_ranks = options.colocated ? std::max(num_src, num_dst) : num_src + num_dst;
  RESHARD_TRY(ModelLayout src, make_model_layout(config.str(), options.from,
                                                 {.num_layers = options.num_layers, .num_ranks = num_ranks}));
  RESHARD_TRY(ModelLayout dst,
              make_model_layout(config.str(), options.to,
                                {.num_layers = options.num_layers, .num_ranks = num_ranks, .first_rank = *first_dst}));
  PlanOptions plan_options;
  if (!options.cluster.empty()) {
    const std::vector<std::int32_t> segments =
        options.colocated ? std::vector{num_ranks} : std::vector{num_src, num_dst};
    RESHARD_TRY(const ClusterSpec spec, parse_cluster(options.cluster));
    RESHARD_TRY(Machine machine, make_machine(spec, segments));
    plan_options.machine = std::make_shared<const Machine>(std::move(machine));
  }
  return create_plan(std::make_shared<const ModelLayout>(std::move(src)),
                     std::make_shared<const ModelLayout>(std::move(dst)), plan_options);
}

/// A base address for every buffer, as arbitrary as an allocator's. Nothing lies there: a program is built without
/// looking at the bytes.
BufferTable made_up_addresses(const ModelLayout& layout, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  BufferTable table;
  for (std::size_t b = 0; b < layout.buffers().size(); ++b) {
    table.push_back(reinterpret_cast<std::byte*>((random() >> 17U) & ~std::uint64_t{63}));
  }
  return table;
}

/// A rank's peers on its host, all of whose memory it reads, as they read its own.
RankLinks made_up_links(const Plan& plan, std::int32_t rank, std::int32_t ranks_per_host) {
  const std::int32_t first = rank / ranks_per_host * ranks_per_host;
  RankFlags near(static_cast<std::size_t>(plan.num_ranks));
  for (std::int32_t peer = first; peer < std::min(first + ranks_per_host, plan.num_ranks); ++peer) {
    near[RankId(peer)] = peer != rank;
  }
  return {near, near, near, near, {}, {}, false};
}

RankMemory made_up_memory(const Plan& plan, const RankLinks& links) {
  RankMemory memory;
  memory.src = made_up_addresses(*plan.src, 1);
  memory.dst = made_up_addresses(*plan.dst, 2);
  for (const RankId peer : links.reads_source.ids()) {
    if (!links.reads_source[peer]) continue;
    memory.peer_src[peer] = made_up_addresses(*plan.src, 3 + static_cast<std::uint64_t>(std::int32_t{peer}));
    memory.peer_dst[peer] = made_up_addresses(*plan.dst, 3 + static_cast<std::uint64_t>(std::int32_t{peer}));
  }
  return memory;
}

std::size_t count_copies(const BoundSchedule& bound) {
  const auto& copier = static_cast<const HostCopier&>(*bound.copier);
  std::size_t count = 0;
  for (std::size_t i = 0; i < copier.num_batches(); ++i) count += copier.copies(static_cast<CopyBatch>(i)).num_ops();
  return count;
}

std::size_t count_messages(const Schedule& schedule) {
  std::size_t count = 0;
  for (const Lanes* lanes : {&schedule.out, &schedule.in}) {
    for (std::size_t lane = 0; lane < kNumMessageLanes; ++lane) count += (*lanes)[lane].steps.size();
  }
  return count;
}

Result<nlohmann::json> measure(const Plan& plan, std::int32_t rank, const Options& options) {
  const RankLinks links = made_up_links(plan, rank, options.ranks_per_host);
  const RankMemory memory = made_up_memory(plan, links);
  reset_peak();
  const double before_mb = resident_mb("VmRSS");
  const double start = thread_seconds();
  Schedule schedule = build_schedule(plan, rank, links);
  const double schedule_seconds = thread_seconds() - start;
  RESHARD_TRY(const BoundSchedule program,
              bind_schedule(plan, std::move(schedule), memory, std::make_unique<HostCopier>()));
  const double seconds = thread_seconds() - start;
  const double peak_mb = resident_mb("VmHWM") - before_mb;
  malloc_trim(0);
  const double kept_mb = resident_mb("VmRSS") - before_mb;
  const std::size_t messages = count_messages(program.schedule);
  const std::size_t copies = count_copies(program);
  std::printf("%6d %10.3f %10.3f %10.1f %10.1f %10zu %10zu\n", rank, seconds, schedule_seconds, peak_mb, kept_mb,
              messages, copies);
  return nlohmann::json{{"rank", rank},       {"seconds", seconds}, {"schedule_seconds", schedule_seconds},
                        {"peak_mb", peak_mb}, {"kept_mb", kept_mb}, {"messages", messages},
                        {"copies", copies}};
}

Status run(Options options) {
  std::int32_t first_dst = 0;
  const double start = thread_seconds();
  RESHARD_TRY(const Plan plan, make_plan(options, &first_dst));
  nlohmann::json report = {{"plan_seconds", thread_seconds() - start}, {"programs", nlohmann::json::array()}};
  std::printf("%d ranks, %zu routes, %lld atoms\n", plan.num_ranks, plan.routes.size(),
              static_cast<long long>(plan.num_atoms()));
  std::printf("%6s %10s %10s %10s %10s %10s %10s\n", "rank", "seconds", "schedule", "peak MB", "kept MB", "messages",
              "copies");
  if (options.ranks.empty()) options.ranks = {0, first_dst};
  for (const std::int32_t rank : options.ranks) {
    if (rank < 0 || rank >= plan.num_ranks) return invalid_argument("there is no rank " + std::to_string(rank));
    RESHARD_TRY(nlohmann::json program, measure(plan, rank, options));
    report["programs"].push_back(std::move(program));
  }
  if (options.json_path.empty()) return {};
  std::ofstream file(options.json_path);
  file << report.dump(2) << '\n';
  file.close();
  return file ? Status() : Status{RESHARD_ERR_IO, "cannot write " + options.json_path};
}

int main_with(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, &options)) {
    std::fprintf(stderr,
                 "usage: %s --model FILE --from LAYOUT --to LAYOUT [--layers N] [--colocated] [--cluster TEXT]\n"
                 "       [--rank N]... [--mapped N] [--json FILE]\n",
                 argv[0]);
    return 2;
  }
  const Status status = run(options);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace reshard

int main(int argc, char** argv) {
  return reshard::main_with(argc, argv);
}
