// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "src/exec/control.h"
#include "src/exec/driver.h"
#include "src/exec/stream_work.h"
#include "src/transport/transport.h"

namespace reshard {

/// Gives a whole run to the device in start(): launches, groups of NCCL, and the events that order them. From then on
/// the host only watches: wait_group(), poll() and finish() ask for events, for errors of the communicator and for the
/// news of peers, and end the run when its time is over. A caller's stream can wait for a group right after start().
///
/// Complete means confirmed, as with PollDriver, though no rank confirms anything to another: an exchange ends at the
/// receiver only when it has all bytes from a sender whose run stood, and a copy out of a peer's memory lets nothing of
/// its stream go on before it has seen that the peer's run stands (StreamSignals). Whoever gives a run up first takes
/// that word back, tells the peers, and ends its communicator; only then may its streams run on, over whatever bytes.
///
/// A run that failed takes the communicator with it, so the binding does no other: start() says so. Every rank must
/// make it anew.
///
/// Captured runs. start() on a stream that captures puts the run into the caller's graph, forked from that stream and
/// joined to it, and starts none. Each launch of the graph is then a run, as if start() had been called, and is
/// followed by finish(), with poll() and wait_group() before as one likes: they look at the next run that has not been
/// finished, whether or not it has begun, and finish() also waits for later ones that have. Groups are complete when
/// the run is; their events are of use within the capture. Launches are runs like others: all ranks make them in one
/// order, and none is made after a run has failed or the binding is gone.
class StreamDriver final : public Driver {
 public:
  /// `work` with signals and communicator. `control` outlives the driver. `enqueue_us`: how long start() may wait for
  /// connections of NCCL.
  StreamDriver(std::shared_ptr<StreamWork> work, Control* control, Transport* transport, std::int64_t enqueue_us)
      : work_(std::move(work)), control_(control), transport_(transport), enqueue_us_(enqueue_us) {}

  Status start(void* stream) override;
  Status wait_group(std::int32_t group, const Deadline& deadline) override;
  Result<bool> poll() override;
  Status finish(const Deadline& deadline) override;
  bool is_running() const override { return is_started_; }
  std::int64_t num_runs() const override { return num_runs_; }
  std::int32_t num_groups_complete() const override { return num_groups_complete_; }
  Result<void*> group_event(std::int32_t group) const override;
  std::shared_ptr<NcclComm> sound_comm() const override;
  bool retire() override;

 private:
  using Clock = std::chrono::steady_clock;

  /// How the run under way was begun.
  enum class Way : std::uint8_t {
    kNone,      ///< there is none, and no graph
    kStarted,   ///< by start()
    kLaunched,  ///< by a launch of the graph: known only once it has begun
  };

  void watch();
  void begin_run();
  Status capture(const Stream& callers);
  Status begin(const Stream& callers);
  Way way() const;  ///< how the run that comes next to an end was begun
  Status check_started() const;
  bool is_over() const { return is_ended_; }
  std::int32_t num_groups() const { return static_cast<std::int32_t>(work_->program().group_events.size()); }
  Status step();
  Status note_progress();
  Status note_launched();
  Status look_for_losses();
  bool needs(const StreamProgram::Peer& peer) const;
  Status wait(const std::function<bool()>& is_complete, const Deadline& deadline);
  void end_run();
  Status fail(Status status);
  void abandon();
  bool is_idle() const;
  void end_work();
  std::string missing() const;

  std::shared_ptr<StreamWork> work_;
  Control* control_;
  Transport* transport_;
  std::int64_t enqueue_us_;
  std::int64_t num_runs_ = 0;             // that were started, or launched and finished
  std::int64_t num_good_ = 0;             // runs that have ended, as the device counts them
  std::int32_t num_groups_complete_ = 0;  // of the run under way, or of the last one
  bool is_started_ = false;               // by start(), and not finished
  bool is_watching_ = false;              // a launched run: Control knows of it
  bool is_ended_ = false;                 // the run under way
  bool has_graph_ = false;
  bool is_launch_lost_ = false;                // the run that failed is one that a graph launched
  bool is_broken_ = false;                     // a run has failed, and there can be no other
  std::vector<Clock::time_point> lost_since_;  // by index in StreamProgram::peers; the epoch's: not lost
  Clock::time_point moved_;                    // the last progress of any kind
  Clock::time_point looked_;                   // for losses, last
  Status failure_;
};

}  // namespace reshard
