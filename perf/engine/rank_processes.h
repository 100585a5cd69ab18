// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Child processes that are ranks of this host, for people without a launcher.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace reshard::perf {

/// A folder in /dev/shm for the shared memory that UCX makes in ranks started here. UCX takes the names of its segments
/// away right after it has made them; a rank that is killed in between leaves one for ever, so the folder goes as a
/// whole. Folders of launchers that were killed themselves are removed by the next one.
class SharedMemoryFolder {
 public:
  SharedMemoryFolder();
  ~SharedMemoryFolder();
  SharedMemoryFolder(const SharedMemoryFolder&) = delete;
  SharedMemoryFolder& operator=(const SharedMemoryFolder&) = delete;

  const std::string& path() const { return path_; }  ///< empty: there could be none, or the caller chose UCX's place

 private:
  std::string path_;
  int lock_ = -1;  // held, also by the ranks, as long as one of them lives
};

/// The signals that ask this process to end, as long as this lives: they are taken by RankProcesses::wait() instead,
/// and raised again afterwards. Those that are ignored, as under nohup, stay so.
class HeldSignals {
 public:
  HeldSignals();
  ~HeldSignals();
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;

  const sigset_t& held() const { return held_; }
  const sigset_t& before() const { return before_; }  ///< for the ranks
  void raise_later(int signal_number) { raised_ = signal_number; }

 private:
  sigset_t held_;
  sigset_t before_;
  int raised_ = 0;
};

/// Copies of this program that are ranks. Those that still run when this goes out of scope are asked to end (SIGTERM),
/// and killed when they do not within two seconds; none outlives this process.
class RankProcesses {
 public:
  /// Once a rank has ended the others have timeout_us to end too.
  RankProcesses(char** argv, std::int32_t num_ranks, std::int64_t timeout_us);
  ~RankProcesses() { stop(); }
  RankProcesses(const RankProcesses&) = delete;
  RankProcesses& operator=(const RankProcesses&) = delete;

  struct Variable {
    const char* name;
    std::string value;
  };
  /// Starts the next rank with more environment variables, and with fd_to_keep open in it unless that is -1.
  void start(const std::vector<Variable>& variables, int fd_to_keep);

  /// Until all have ended, one has failed, or this process is asked to end. Returns the exit code for this process, and
  /// says on stderr what went wrong.
  int wait();

 private:
  [[noreturn]] void become_rank(const std::vector<Variable>& variables, int fd_to_keep);
  int next_signal(std::int64_t timeout_us) const;
  int collect();
  bool is_any_left() const;
  void stop();

  std::string program_;
  char** argv_;
  std::int32_t num_ranks_;
  std::int64_t timeout_us_;
  SharedMemoryFolder folder_;
  HeldSignals signals_;
  std::vector<pid_t> pids_;  // by rank; 0: ended
  std::size_t num_ended_ = 0;
  int worst_ = 0;  // of the exit codes so far
};

}  // namespace reshard::perf
