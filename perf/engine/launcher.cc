// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/launcher.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "perf/engine/error.h"

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
std::string device_of_rank(const std::string& net_devices) {
  std::vector<std::string> devices;
  std::istringstream stream(net_devices);
  for (std::string device; std::getline(stream, device, ',');) devices.push_back(device);
  for (const char* variable : {kRankVariable, "LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"}) {
    if (is_set(variable)) return devices[static_cast<std::size_t>(number_in(variable)) % devices.size()];
  }
  fail("--net-devices needs the rank's number on its host: set LOCAL_RANK");
}

/// The ranks that run. Those that still do when this goes out of scope are killed.
class RankProcesses {
 public:
  RankProcesses(char** argv, std::int32_t num_ranks)
      : program_(std::filesystem::read_symlink("/proc/self/exe")), argv_(argv), num_ranks_(num_ranks) {}
  ~RankProcesses() { stop(); }
  RankProcesses(const RankProcesses&) = delete;
  RankProcesses& operator=(const RankProcesses&) = delete;

  /// Starts the next rank with one more environment variable, and with fd_to_keep open in it unless that is -1.
  void start(const char* variable, const std::string& value, int fd_to_keep) {
    const pid_t launcher = getpid();
    const pid_t pid = fork();
    if (pid < 0) fail("cannot start rank {}: {}", pids_.size(), std::strerror(errno));
    if (pid > 0) {
      pids_.push_back(pid);
      return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != launcher) _exit(kExitError);  // it died before the line above
    if (fd_to_keep >= 0) fcntl(fd_to_keep, F_SETFD, 0);
    setenv(variable, value.c_str(), 1);
    setenv(kRankVariable, std::to_string(pids_.size()).c_str(), 1);
    setenv(kNumRanksVariable, std::to_string(num_ranks_).c_str(), 1);
    execv(program_.c_str(), argv_);
    fmt::print(stderr, "reshard_perf: cannot start rank {}: {}\n", pids_.size(), std::strerror(errno));
    _exit(kExitError);
  }

  int wait() {
    int result = kExitOk;
    for (std::size_t i = 0; i < pids_.size(); ++i) {
      int status = 0;
      const std::size_t rank = wait_any(&status);
      const int exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : kExitError;
      if (exit_code != kExitOk && exit_code != kExitWrongElements) {
        const std::string how = WIFSIGNALED(status) ? fmt::format("was killed by signal {} ({})", WTERMSIG(status),
                                                                  strsignal(WTERMSIG(status)))
                                                    : fmt::format("exited with code {}", exit_code);
        fmt::print(stderr, "reshard_perf: rank {} {}; the others were stopped\n", rank, how);
        return exit_code;
      }
      result = std::max(result, exit_code);
    }
    return result;
  }

 private:
  /// The rank that ended, which is forgotten so that it is never killed.
  std::size_t wait_any(int* status) {
    pid_t pid = -1;
    do {
      pid = waitpid(-1, status, 0);
    } while (pid < 0 && errno == EINTR);
    const auto found = std::find(pids_.begin(), pids_.end(), pid);
    if (pid < 0 || found == pids_.end()) fail("cannot wait for the ranks: {}", std::strerror(errno));
    *found = 0;
    return static_cast<std::size_t>(found - pids_.begin());
  }

  void stop() {
    for (const pid_t pid : pids_) {
      if (pid != 0) kill(pid, SIGKILL);
    }
    for (const pid_t pid : pids_) {
      if (pid != 0) waitpid(pid, nullptr, 0);
    }
  }

  std::string program_;
  char** argv_;
  std::int32_t num_ranks_;
  std::vector<pid_t> pids_;  // by rank; 0: ended
};

}  // namespace

bool is_rank_process() {
  return is_set(kRankVariable) || is_set("OMPI_COMM_WORLD_SIZE") || (is_set("WORLD_SIZE") && is_set("RANK")) ||
         (is_set("SLURM_NTASKS") && is_set("SLURM_PROCID"));
}

Comm join_ranks(std::int64_t timeout_us, const std::string& net_devices) {
  reshard_comm_options_t options;
  reshard_comm_options_init(&options);
  options.timeout_us = timeout_us;
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

int launch_ranks(char** argv, std::int32_t num_ranks) {
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC) != 0) fail("cannot make a pipe: {}", std::strerror(errno));
  RankProcesses processes(argv, num_ranks);
  processes.start(kIdPipeVariable, std::to_string(ends[1]), ends[1]);
  close(ends[1]);
  reshard_unique_id_t id = {};
  const ssize_t received = read(ends[0], id.data, sizeof id.data);
  close(ends[0]);
  if (received == static_cast<ssize_t>(sizeof id.data)) {
    for (std::int32_t rank = 1; rank < num_ranks; ++rank) processes.start(kIdVariable, to_hex(id), -1);
  }  // else rank 0 has failed, as wait() will find
  return processes.wait();
}

}  // namespace reshard::perf
