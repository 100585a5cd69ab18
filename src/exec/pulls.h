// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "src/exec/bound_schedule.h"
#include "src/exec/confirmations.h"
#include "src/exec/group_counter.h"
#include "src/exec/run_word.h"

namespace reshard {

/// Copies out of the memory of peers, in the current run: groups out of their sources, and windows out of what has
/// landed in their destinations, one by one as they are confirmed. Sized once; a run allocates nothing.
class Pulls {
 public:
  /// All but `words` must outlive this object. `words`: of the ranks whose memory is read.
  Pulls(const BoundSchedule& bound, const std::map<std::int32_t, void*>& words, GroupCounter* groups,
        Confirmations* confirmations, Control* control);

  void begin(std::int64_t run);

  /// Something new was heard of a peer: a pull may have become possible.
  void heed() { may_start_ = true; }

  /// Copies a piece of each pull under way; sets *moved when anything moved. RESHARD_ERR_ABANDONED when a peer gave the
  /// run up while its memory was read.
  Status step(bool* moved);

  bool awaits(std::size_t peer) const;  ///< has not read everything of its memory
  bool is_complete() const { return num_left_ == 0; }

 private:
  /// Windows of one kind out of one peer's memory, in the order in which that confirms them.
  struct Queue {
    std::vector<std::uint32_t> steps;  // indices in kMappedLane
    std::size_t next = 0;              // to begin
    std::size_t num_read = 0;          // the first ones, which the peer is told of
  };
  struct Source {
    std::int32_t rank = -1;
    std::size_t peer = 0;  // as the control stream counts
    RunWord word;
    std::int32_t num_pulls = 0;   // groups
    std::int32_t pulls_left = 0;  // when it is 0 the peer is told that its source was read
    std::array<Queue, 2> windows;
    bool is_done() const {
      return pulls_left == 0 && windows[0].num_read == windows[0].steps.size() &&
             windows[1].num_read == windows[1].steps.size();
    }
  };
  struct Job {
    std::size_t source = 0;  // in sources_
    std::int32_t kind = -1;  // of a window; -1: a group
    std::size_t index = 0;   // in Schedule::pulls, or kMappedLane
    CopyJob copy;
  };

  std::size_t source_index(std::int32_t rank, const std::map<std::int32_t, void*>& words);
  void start();
  bool start_window();
  bool start_group();
  Status finish(const Job& job);
  void finish_window(Source* source, const Job& job);

  const BoundSchedule& bound_;
  GroupCounter* groups_;
  Confirmations* confirmations_;
  Control* control_;
  std::int64_t run_ = 0;
  std::vector<Source> sources_;
  std::vector<std::int32_t> source_of_peer_;  // index in sources_, by peer; -1: none
  std::vector<bool> is_begun_;                // of Schedule::pulls
  std::vector<bool> is_read_;                 // of kMappedLane
  std::size_t first_pull_ = 0;                // all before it are begun
  std::vector<Job> jobs_;                     // under way, Copier::most_jobs() at most
  std::size_t num_left_ = 0;
  bool may_start_ = false;        // a pull may have become possible since none was
  std::int32_t seen_groups_ = 0;  // that were closed then
};

}  // namespace reshard
