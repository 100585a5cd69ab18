// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Ranks as child processes. The promise is that nothing outlives the launcher: neither a rank, whatever kills whom, nor
// a shared segment. Hence the kernel's own means in place of bookkeeping: a death signal for the children, a lock that
// the kernel drops with its last holder, signals that are taken in one place.
#include "perf/engine/rank_processes.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "perf/engine/error.h"
#include "perf/engine/launcher.h"

namespace reshard::perf {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr const char* kSharedMemory = "/dev/shm";
constexpr const char* kFolderPrefix = "reshard_perf.";
constexpr const char* kUcxFolderVariable = "UCX_POSIX_DIR";

// Removes the folders whose lock nobody holds any more: their launcher and all its ranks are gone.
void remove_abandoned_folders() {
  std::error_code error;
  for (fs::directory_iterator it(kSharedMemory, error), end; !error && it != end; it.increment(error)) {
    if (!it->path().filename().string().starts_with(kFolderPrefix)) continue;
    const int fd = open(it->path().c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) continue;
    std::error_code ignored;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) fs::remove_all(it->path(), ignored);
    close(fd);
  }
}

}  // namespace

SharedMemoryFolder::SharedMemoryFolder() {
  if (std::getenv(kUcxFolderVariable) != nullptr) return;
  remove_abandoned_folders();
  // Another launcher may take the folder for abandoned before it is locked: then the next one is tried.
  for (int attempt = 0; attempt < 10 && path_.empty(); ++attempt) {
    std::string path = fmt::format("{}/{}XXXXXX", kSharedMemory, kFolderPrefix);
    if (mkdtemp(path.data()) == nullptr) return;  // UCX will say what is wrong with the place, or do without
    // Not closed on exec: the ranks hold the lock too.
    lock_ = open(path.c_str(), O_RDONLY | O_DIRECTORY);
    if (lock_ < 0) continue;
    // Shared, because launcher and ranks hold it together; who removes folders asks for the exclusive one and gets it
    // only where nobody holds any.
    flock(lock_, LOCK_SH);
    if (access(path.c_str(), F_OK) == 0) {
      path_ = path;
    } else {
      close(lock_);
    }
  }
}

SharedMemoryFolder::~SharedMemoryFolder() {
  std::error_code ignored;
  if (path_.empty()) return;
  fs::remove_all(path_, ignored);
  close(lock_);
}

HeldSignals::HeldSignals() {
  sigemptyset(&held_);
  // The end of a rank is a signal like the others, so that one sigtimedwait() waits for everything that can happen.
  sigaddset(&held_, SIGCHLD);
  for (const int signal_number : {SIGHUP, SIGINT, SIGTERM}) {
    struct sigaction action {};
    sigaction(signal_number, nullptr, &action);
    if (action.sa_handler != SIG_IGN) sigaddset(&held_, signal_number);
  }
  sigprocmask(SIG_BLOCK, &held_, &before_);
}

HeldSignals::~HeldSignals() {
  if (raised_ != 0) raise(raised_);  // takes effect with the next line
  sigprocmask(SIG_SETMASK, &before_, nullptr);
}

RankProcesses::RankProcesses(char** argv, std::int32_t num_ranks, std::int64_t timeout_us)
    : program_(fs::read_symlink("/proc/self/exe")), argv_(argv), num_ranks_(num_ranks), timeout_us_(timeout_us) {}

void RankProcesses::start(const std::vector<Variable>& variables, int fd_to_keep) {
  const pid_t launcher = getpid();
  const pid_t pid = fork();
  if (pid < 0) fail("cannot start rank {}: {}", pids_.size(), std::strerror(errno));
  if (pid > 0) {
    pids_.push_back(pid);
    return;
  }
  // SIGKILL, which no rank can hold: it comes even when the launcher was killed that way itself.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != launcher) _exit(kExitError);  // it died before the line above
  become_rank(variables, fd_to_keep);
}

void RankProcesses::become_rank(const std::vector<Variable>& variables, int fd_to_keep) {
  sigprocmask(SIG_SETMASK, &signals_.before(), nullptr);
  if (fd_to_keep >= 0) fcntl(fd_to_keep, F_SETFD, 0);
  if (!folder_.path().empty()) setenv(kUcxFolderVariable, folder_.path().c_str(), 1);
  for (const Variable& variable : variables) setenv(variable.name, variable.value.c_str(), 1);
  execv(program_.c_str(), argv_);
  fmt::print(stderr, "reshard_perf: cannot start rank {}: {}\n", pids_.size(), std::strerror(errno));
  _exit(kExitError);
}

// The next of the held signals, or 0 when none comes in time.
int RankProcesses::next_signal(std::int64_t timeout_us) const {
  const timespec timeout{timeout_us / 1'000'000, timeout_us % 1'000'000 * 1000};
  const int signal_number = sigtimedwait(&signals_.held(), nullptr, &timeout);
  return std::max(signal_number, 0);
}

bool RankProcesses::is_any_left() const {
  return num_ended_ < pids_.size();
}

// Takes note of the ranks that have ended; the exit code of one that failed, else kExitOk.
int RankProcesses::collect() {
  for (std::size_t rank = 0; rank < pids_.size(); ++rank) {
    int status = 0;
    if (pids_[rank] == 0 || waitpid(pids_[rank], &status, WNOHANG) != pids_[rank]) continue;
    pids_[rank] = 0;  // never killed: the number may be another process's by now
    ++num_ended_;
    const int exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : kExitError;
    worst_ = std::max(worst_, exit_code);
    if (exit_code == kExitOk || exit_code == kExitWrongElements) continue;
    const std::string how =
        WIFSIGNALED(status) ? fmt::format("was killed by signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)))
                            : fmt::format("exited with code {}", exit_code);
    fmt::print(stderr, "reshard_perf: rank {} {}; the others were stopped\n", rank, how);
    return exit_code;
  }
  return kExitOk;
}

int RankProcesses::wait() {
  constexpr std::int64_t kLongUs = 3'600'000'000;  // nothing but a wake-up
  constexpr std::int64_t kLeastUs = 2'000'000;     // ranks need a moment to end, whatever their deadline
  Clock::time_point first_ended{};
  while (true) {
    const std::size_t num_ended = num_ended_;
    // Several children that end together may give one signal, so each turn looks at all of them.
    if (const int failed = collect(); failed != kExitOk) return failed;
    if (!is_any_left()) return worst_;
    if (num_ended == 0 && num_ended_ > 0) first_ended = Clock::now();
    const auto passed = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - first_ended).count();
    const std::int64_t left_us =
        num_ended_ == 0 ? kLongUs : std::min(std::max(timeout_us_, kLeastUs) - passed, kLongUs);
    if (left_us <= 0) break;
    const int signal_number = next_signal(left_us);
    if (signal_number == 0 || signal_number == SIGCHLD) continue;
    signals_.raise_later(signal_number);
    return kExitError;
  }
  std::string ranks;
  for (std::size_t rank = 0; rank < pids_.size(); ++rank) {
    if (pids_[rank] != 0) ranks += fmt::format("{}{}", ranks.empty() ? "" : ", ", rank);
  }
  fmt::print(stderr, "reshard_perf: rank {} did not end within {:.1f} s after the first one had; stopped\n", ranks,
             static_cast<double>(std::max(timeout_us_, kLeastUs)) * 1e-6);
  return kExitError;
}

void RankProcesses::stop() {
  constexpr auto kPatience = std::chrono::seconds(2);
  const auto signal_all = [this](int signal_number) {
    for (const pid_t pid : pids_) {
      if (pid != 0) kill(pid, signal_number);
    }
  };
  signal_all(SIGTERM);
  const auto end = Clock::now() + kPatience;
  for (auto now = Clock::now(); is_any_left() && now < end; now = Clock::now()) {
    for (pid_t& pid : pids_) {
      if (pid == 0 || waitpid(pid, nullptr, WNOHANG) != pid) continue;
      pid = 0;
      ++num_ended_;
    }
    if (is_any_left()) usleep(1000);
  }
  signal_all(SIGKILL);
  for (pid_t& pid : pids_) {
    if (pid != 0) waitpid(pid, nullptr, 0);
    pid = 0;
  }
}

}  // namespace reshard::perf
