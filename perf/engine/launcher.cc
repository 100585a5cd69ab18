// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/launcher.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <sstream>
#include <string>
#include <vector>

#include "perf/engine/error.h"
#include "perf/engine/rank_processes.h"

// Rank 0 is started first: it makes the unique id and sends it up a pipe; the other ranks find it in their environment.
// The launching process itself never opens a transport, which would not survive the fork.

namespace reshard::perf {
namespace {

constexpr const char* kRankVariable = "RESHARD_PERF_RANK";
constexpr const char* kNumRanksVariable = "RESHARD_PERF_NUM_RANKS";
constexpr const char* kIdPipeVariable = "RESHARD_PERF_ID_PIPE";
constexpr const char* kIdVariable = "RESHARD_PERF_ID";

bool is_set(const char* variable) {
  return std::getenv(variable) != nullptr;
}

std::int32_t number_in(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr) fail("the environment variable {} is missing: let reshard_perf start its ranks", variable);
  return static_cast<std::int32_t>(std::strtol(text, nullptr, 10));
}

// An environment holds text without zero bytes, and an id is any bytes.
std::string to_hex(const reshard_unique_id_t& id) {
  std::string text;
  for (const char c : id.data) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

reshard_unique_id_t from_hex(const std::string& text) {
  reshard_unique_id_t id = {};
  if (text.size() != 2 * sizeof id.data) fail("{} has {} digits, not {}", kIdVariable, text.size(), 2 * sizeof id.data);
  for (std::size_t i = 0; i < sizeof id.data; ++i) {
    id.data[i] = static_cast<char>(std::strtol(text.substr(2 * i, 2).c_str(), nullptr, 16));
  }
  return id;
}

/// The id: made here and sent up the pipe on rank 0, found in the environment elsewhere.
reshard_unique_id_t obtain_id() {
  if (is_set(kIdVariable)) return from_hex(std::getenv(kIdVariable));
  reshard_unique_id_t id = {};
  check(reshard_unique_id_create(nullptr, &id), "opening the rendezvous");
  const int pipe_end = number_in(kIdPipeVariable);
  const ssize_t written = write(pipe_end, id.data, sizeof id.data);
  close(pipe_end);
  if (written != static_cast<ssize_t>(sizeof id.data)) fail("cannot hand the unique id to the launching process");
  return id;
}

/// The device of this rank: the ranks of a host take them in turn.
///
/// By the rank's number on its host and not in the job: hosts count from 0 each, so that all NICs of all hosts are
/// used.
std::string device_of_rank(const std::string& net_devices) {
  std::vector<std::string> devices;
  std::istringstream stream(net_devices);
  for (std::string device; std::getline(stream, device, ',');) devices.push_back(device);
  for (const char* variable : {kRankVariable, "LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"}) {
    if (is_set(variable)) return devices[static_cast<std::size_t>(number_in(variable)) % devices.size()];
  }
  fail("--net-devices needs the rank's number on its host: set LOCAL_RANK");
}

}  // namespace

bool is_started_rank() {
  return is_set(kRankVariable);
}

bool is_rank_process() {
  return is_started_rank() || !launcher_variables().empty();
}

std::string launcher_variables() {
  const std::initializer_list<std::array<const char*, 3>> launchers = {
      {"torchrun", "RANK", "WORLD_SIZE"},
      {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
      {"srun", "SLURM_PROCID", "SLURM_NTASKS"}};
  std::string text;
  for (const auto& [name, rank, size] : launchers) {
    if (is_started_rank() || !is_set(rank) || !is_set(size)) continue;
    text += fmt::format("{}{}={} and {}={} of {}", text.empty() ? "" : ", ", rank, std::getenv(rank), size,
                        std::getenv(size), name);
  }
  return text;
}

Comm join_ranks(std::int64_t timeout_us, const std::string& net_devices) {
  reshard_comm_options_t options;
  reshard_comm_options_init(&options);
  options.timeout_us = timeout_us;
  options.notice = [](const char* text, void*) { fmt::print(stderr, "reshard_perf: {}\n", text); };
  const std::string device = net_devices.empty() ? "" : device_of_rank(net_devices);
  if (!device.empty()) options.net_devices = device.c_str();
  reshard_comm_t comm = nullptr;
  if (is_set(kRankVariable)) {
    const reshard_unique_id_t id = obtain_id();
    check(reshard_comm_create_from_id(&id, number_in(kRankVariable), number_in(kNumRanksVariable), &options, &comm),
          "joining the ranks");
  } else {
    check(reshard_comm_create_from_environment(&options, &comm), "joining the launcher's ranks");
  }
  return Comm(comm);
}

int launch_ranks(char** argv, std::int32_t num_ranks, std::int64_t timeout_us) {
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC) != 0) fail("cannot make a pipe: {}", std::strerror(errno));
  RankProcesses processes(argv, num_ranks, timeout_us);
  const auto start = [&](std::int32_t rank, const char* variable, const std::string& value, int fd_to_keep) {
    processes.start(
        {{variable, value}, {kRankVariable, std::to_string(rank)}, {kNumRanksVariable, std::to_string(num_ranks)}},
        fd_to_keep);
  };
  start(0, kIdPipeVariable, std::to_string(ends[1]), ends[1]);
  close(ends[1]);
  reshard_unique_id_t id = {};
  // Ends also when rank 0 dies, since this process has closed its own writing end. Fewer bytes than a pipe's buffer
  // come in one piece.
  const ssize_t received = read(ends[0], id.data, sizeof id.data);
  close(ends[0]);
  if (received == static_cast<ssize_t>(sizeof id.data)) {
    for (std::int32_t rank = 1; rank < num_ranks; ++rank) start(rank, kIdVariable, to_hex(id), -1);
  }  // else rank 0 has failed, as wait() will find
  return processes.wait();
}

}  // namespace reshard::perf
