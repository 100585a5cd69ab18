// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "src/exec/stages.h"
#include "src/exec/stream_program.h"

namespace reshard {

/// Which flags there are between ranks that read each other's memory in place, without an address. Flags lie in a row
/// of memory of the rank that waits for them, so that it looks at its own memory while it waits:
///   flag 0                     that this rank's runs stand; the readers of its memory look at it (StreamSignals)
///   then, for each lender      "you may read": my source, and what I lend in each stage in which I lend to you
///   then, for each reader      "I have read": your source, and what you lend in each such stage
/// A stage is the same at both ends, so the nth in which a pair shares something is the same one on both.
class SignalMap {
 public:
  SignalMap(const StageSchedule& stages, const StreamProgram& program);

  /// A flag of a row, by the end of the pair that it has to do with.
  struct Flag {
    std::int32_t peer = -1;
    std::int64_t number = 0;  ///< in the section of the pair: 0 of the source, then the stages in order
  };

  /// The flags of this rank's row that tell of a peer, or of those of the peer's that tell of this rank.
  struct Section {
    std::int64_t first = 0;  ///< in this rank's row
    std::int64_t count = 0;
  };
  const std::map<std::int32_t, Section>& lenders() const { return lenders_; }  ///< by rank
  const std::map<std::int32_t, Section>& readers() const { return readers_; }
  std::int64_t num_flags() const { return num_flags_; }
  bool empty() const { return lenders_.empty() && readers_.empty(); }

  /// By stage: whom this rank lends to in it, and of whom it reads.
  const std::vector<std::vector<Flag>>& lends() const { return lends_; }
  const std::vector<std::vector<Flag>>& reads() const { return reads_; }
  /// By pull of the program: whose sources it reads, and those that no later pull reads.
  const std::vector<std::vector<Flag>>& pulls() const { return pulls_; }
  const std::vector<std::vector<Flag>>& last_pulls() const { return last_pulls_; }
  /// Readers of this rank's source, group by group.
  const std::vector<Flag>& source_readers() const { return source_readers_; }
  /// By StreamProgram::awaited: what is to have been read since the one before.
  const std::vector<std::vector<Flag>>& awaited() const { return awaited_; }

 private:
  void add_windows(const StageSchedule& stages);
  void add_pulls(const StageSchedule& stages, const StreamProgram& program);
  void add_awaited(const StageSchedule& stages, const StreamProgram& program);

  std::map<std::int32_t, Section> lenders_;
  std::map<std::int32_t, Section> readers_;
  std::int64_t num_flags_ = 1;
  std::vector<std::vector<Flag>> lends_;
  std::vector<std::vector<Flag>> reads_;
  std::vector<std::vector<Flag>> pulls_;
  std::vector<std::vector<Flag>> last_pulls_;
  std::vector<Flag> source_readers_;
  std::vector<std::vector<Flag>> awaited_;
};

}  // namespace reshard
