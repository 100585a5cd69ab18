// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "perf/engine/error.h"
#include "perf/engine/launcher.h"
#include "perf/engine/live_run.h"
#include "perf/engine/options.h"
#include "perf/engine/output.h"
#include "perf/engine/report.h"

// Moves a model for real: see perf/README.md.

namespace reshard::perf {
namespace {

int run_and_report(const PerfOptions& options, reshard_comm_t comm) {
  const Ranks ranks = make_ranks(comm, options.timeout_us);
  OutputFile json(ranks.rank == 0 ? options.job.json : "");
  const LiveResult result = run_rank(options, ranks);
  if (ranks.rank == 0) {
    print_report(live_report_text(options, result));
    json.write(json_text(live_report_json(options, result), 2) + "\n");
  }
  return result.is_correct() ? kExitOk : kExitWrongElements;
}

/// One process that is a rank.
int run_process(const PerfOptions& options) {
  const Comm comm = join_ranks(options.timeout_us, options.net_devices);
  return run_and_report(options, comm.get());
}

/// All ranks as threads. The first one that fails ends the program: the others could only wait for it in vain.
int run_threads(const PerfOptions& options) {
  const std::int32_t num_ranks = validate_run(options);
  reshard_comm_options_t comm_options;
  reshard_comm_options_init(&comm_options);
  comm_options.timeout_us = options.timeout_us;
  std::vector<reshard_comm_t> handles(static_cast<std::size_t>(num_ranks));
  check(reshard_comm_create_local(num_ranks, &comm_options, handles.data()), "connecting the threads");
  std::vector<Comm> comms;
  for (reshard_comm_t handle : handles) comms.emplace_back(handle);
  std::vector<int> exit_codes(handles.size());
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < comms.size(); ++rank) {
    threads.emplace_back([&, rank] {
      try {
        exit_codes[rank] = run_and_report(options, comms[rank].get());
      } catch (const std::exception& error) {
        fmt::print(stderr, "reshard_perf: rank {}: {}\n", rank, error.what());
        std::_Exit(kExitError);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return exit_codes[0];
}

int run(const PerfOptions& options, char** argv) {
  if (options.ranks_are_threads) return run_threads(options);
  if (is_started_rank() || (!options.start_ranks && is_rank_process())) return run_process(options);
  return launch_ranks(argv, validate_run(options), options.timeout_us);
}

}  // namespace
}  // namespace reshard::perf

int main(int argc, char** argv) {
  using namespace reshard::perf;
  reserve_standard_streams();
  try {
    PerfOptions options;
    if (const auto exit_code = parse_options(argc, argv, &options)) return *exit_code;
    return run(options, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "reshard_perf: {}\n", error.what());
    return kExitError;
  }
}
