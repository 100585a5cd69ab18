// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/exec/stages.h"
#include "src/exec/stream_commands.h"

namespace reshard {

/// All that one rank gives to its streams in a run, as a list of commands: a function of its stages, with no address in
/// it and nothing of the runtime.
///
/// Commands stand in the order of stages, and each waits only for what stands before it. So it makes no difference how
/// many of the streams a device really has: were all of them one queue, nothing would wait for what is behind it, and a
/// stage's lends are told, and its messages begun, before anything of a later stage (see stages.h, why nothing blocks).
struct StreamProgram {
  StreamCommandList list;

  /// Pulls that are one launch: those of a group, from all peers. Indices in Schedule::pulls.
  struct Pull {
    std::int32_t begin = 0;
    std::int32_t end = 0;
  };
  std::vector<Pull> pulls;

  /// What is waited for at once to have been read by peers: what was lent up to a stage. The last one is of the end of
  /// the run: everything, also of this rank's source.
  std::vector<std::int32_t> awaited;

  std::vector<std::int32_t> group_events;  ///< by position in the rank's order
  std::int32_t end_event = -1;

  /// What this rank needs of a peer.
  struct Peer {
    std::int32_t rank = -1;
    std::vector<std::int32_t> events;  ///< when all are done, all messages and all reads of the peer's memory are
    bool is_reader = false;            ///< it reads this rank's memory, at most until the end of the run
  };
  std::vector<Peer> peers;  ///< ascending by rank
};

/// `has_scales`: a run begins with making the scales of this rank's sources, and nothing else of it goes on before they
/// are there: packs, moves and peers read them, and they are sent as the tensors that they are.
StreamProgram program_of(const StageSchedule& stages, bool has_scales);

}  // namespace reshard
