// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <vector>

#include "src/exec/copier.h"
#include "src/exec/schedule.h"

namespace reshard {

/// Base addresses of one rank's buffers by buffer id; null where the rank has no such buffer.
using BufferTable = std::vector<std::byte*>;

/// Where this rank's memory lies, and where it sees that of peers which it reads in place.
struct RankMemory {
  BufferTable src;
  BufferTable dst;
  std::map<std::int32_t, BufferTable> peer_src;
  std::map<std::int32_t, BufferTable> peer_dst;
};

/// A message or a read of a schedule, with memory.
struct BoundWindow {
  std::byte* data = nullptr;           ///< of a message: the slot, or the tensor itself
  CopyBatch batch = CopyBatch::kNone;  ///< pack before a send, unpack after a receive, or the copy out of the peer
};

/// The conversion of a group that landed: batches that are run one after the other.
struct BoundFinish {
  std::int32_t position = 0;  ///< of the group in this rank's order
  CopyBatch scales = CopyBatch::kNone;
  CopyBatch copies = CopyBatch::kNone;
};

/// A schedule and this rank's memory. All addresses are resolved: running allocates nothing.
struct BoundSchedule {
  Schedule schedule;
  std::array<std::vector<BoundWindow>, 3> out;  ///< by lane and index as Schedule::out; of what is lent: nothing
  std::array<std::vector<BoundWindow>, 3> in;
  std::vector<CopyBatch> local;                ///< as Schedule::local
  std::vector<CopyBatch> pulls;                ///< as Schedule::pulls
  CopyBatch scales_before = CopyBatch::kNone;  ///< before anything of the sources is read in a run
  std::vector<BoundFinish> finishes;           ///< as Schedule::finishes
  std::vector<std::uint64_t> local_digests;    ///< as Schedule::local: what the list copies (GroupList)
  std::vector<std::uint64_t> pull_digests;     ///< as Schedule::pulls
  std::int64_t num_kept_lists = 0;             ///< of local and pulls: taken over from an older schedule
  std::unique_ptr<Copier> copier;              ///< has the batches and the slots
};

/// A bound schedule of another plan, whose lists may be taken where they are the same.
struct OlderSchedule {
  const Plan& plan;
  const BoundSchedule& bound;
  const RankMemory& memory;
  std::vector<bool> is_unchanged;  ///< by tensor of the new plan: lies where it did, on both sides
};

/// Gives the steps of a schedule of this plan their addresses, and the copies to the copier, which allocates the
/// staging. `older`: null where there is none. Errors: those of the copier, RESHARD_ERR_OUT_OF_MEMORY among them.
Result<BoundSchedule> bind_schedule(const Plan& plan, Schedule schedule, const RankMemory& memory,
                                    std::unique_ptr<Copier> copier, const OlderSchedule* older = nullptr);

}  // namespace reshard
