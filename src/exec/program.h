// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <vector>

#include "kernels/copy_list.h"
#include "src/plan/plan.h"

namespace reshard {

/// Base addresses of one rank's buffers by buffer id; null where the rank has no such buffer.
using BufferTable = std::vector<std::byte*>;

/// Where this rank's memory lies and which peers it shares mappings with.
struct RankMemory {
  BufferTable src;
  BufferTable dst;
  std::map<std::int32_t, BufferTable> mapped_src;  ///< source buffers of peers that this rank reads directly
  std::vector<bool> read_by;                       ///< by rank: peers that read this rank's source directly
};

/// Copies that belong to one completion group.
struct GroupCopies {
  std::int32_t group = 0;  ///< index in Plan::groups
  std::int32_t peer = -1;  ///< whose memory is read; -1: this rank's own
  CopyList copies;
};

/// A message with a peer and the copies between it and the tensors. One contiguous tensor range needs neither copies
/// nor a slot: the message goes from or to the tensor itself.
struct MessageStep {
  std::int32_t peer = -1;
  std::size_t size_bytes = 0;
  std::byte* data = nullptr;         ///< the staging slot, or the tensor itself
  std::int32_t slot = -1;            ///< position in the ring of slots; -1: no staging
  CopyList copies;                   ///< pack before a send, unpack after a receive
  std::vector<std::int32_t> groups;  ///< groups that have a part in it, ascending
};

/// What one rank does in every run of a plan. All addresses are resolved: running allocates nothing.
struct Program {
  std::vector<GroupCopies> local;           ///< moves and fills within the rank, ascending group
  std::vector<GroupCopies> pulls;           ///< copies out of peers' memory, in the plan's one order
  std::vector<MessageStep> sends;           ///< in the plan's one order
  std::vector<MessageStep> receives;        ///< in the plan's one order
  std::vector<std::int32_t> work_of_group;  ///< per group: local + pulls + receives that must be done for it
  std::int32_t num_send_slots = 0;
  std::int32_t num_receive_slots = 0;
  std::int64_t staging_bytes = 0;
  std::unique_ptr<std::byte[]> staging;  ///< the slots that sends and receives point into

  std::int64_t bytes_same_rank = 0;
  std::int64_t bytes_mapped = 0;
  std::int64_t bytes_sent = 0;
  std::int64_t bytes_received = 0;
};

/// Expands the plan for one rank. Allocates the staging; errors: RESHARD_ERR_OUT_OF_MEMORY.
/// @post staging_bytes <= plan.options.staging_bytes
Result<Program> build_program(const Plan& plan, std::int32_t rank, const RankMemory& memory);

/// Ranks whose source this rank needs, ascending; itself excluded.
std::vector<std::int32_t> sources_of(const Plan& plan, std::int32_t rank);

}  // namespace reshard
