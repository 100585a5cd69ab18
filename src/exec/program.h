// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "src/base/indexed_vector.h"
#include "src/exec/copier.h"
#include "src/plan/plan.h"

namespace reshard {

/// Base addresses of one rank's buffers by buffer id; null where the rank has no such buffer.
using BufferTable = std::vector<std::byte*>;

using RankFlags = IndexedVector<RankId, bool>;

/// Where this rank's memory lies and which peers it shares mappings with.
struct RankMemory {
  BufferTable src;
  BufferTable dst;
  std::map<std::int32_t, BufferTable> mapped_src;  ///< source buffers of peers that this rank reads directly
  RankFlags read_by;                               ///< peers that read this rank's source directly
  /// Peers that sends, or receives, cannot be taken back from: none goes straight from or to a tensor. Empty: no such
  /// peer.
  RankFlags stages_sends;
  RankFlags stages_receives;
  bool stages_all = false;  ///< the messenger cannot move the tensors' memory: no message goes straight from or to it
};

/// Copies that belong to one completion group.
struct GroupCopies {
  std::int32_t position = 0;  ///< of the group in this rank's order
  std::int32_t peer = -1;     ///< whose memory is read; -1: this rank's own
  CopyBatch batch = CopyBatch::kNone;
};

/// A message of a direction: lane, and index in the lane's steps.
struct MessageId {
  std::int32_t lane = -1;  ///< -1: none
  std::size_t index = 0;
};

/// A message with a peer and the copies between it and the tensors. One contiguous tensor range needs neither copies
/// nor a slot: the message goes from or to the tensor itself.
struct MessageStep {
  std::int32_t peer = -1;
  std::size_t size_bytes = 0;
  std::byte* data = nullptr;           ///< the staging slot, or the tensor itself
  std::int32_t slot = -1;              ///< position in the ring of slots; -1: no slot of its own
  bool is_relayed = false;             ///< its hop has a parent; both ends know, and tags tell
  bool is_from_staging = false;        ///< of a send: it goes out of the slot of the receive that brings it
  bool is_passed_on = false;           ///< of a send: the receiver sends it on, so it should be whole there soon
  std::int32_t num_forwards = 0;       ///< of a receive to staging: sends out of its slot
  MessageId feed;                      ///< of a send: the receive that must be done first
  CopyBatch batch = CopyBatch::kNone;  ///< pack before a send, unpack after a receive
  /// Positions of the groups that cannot be complete before it is done, ascending. One of Program::works.
  std::span<const std::int32_t> work;
};

/// Messages of one direction that are posted in the plan's one order, with a ring of slots of their own.
struct MessageLane {
  std::vector<MessageStep> steps;
  std::int32_t num_slots = 0;
};

/// The messages of one direction: a lane of those from their first rank, and one of those that are relayed. A relayed
/// message at the head of its lane, whose bytes are still on their way here, so holds up no other.
inline constexpr std::int32_t kFirstLane = 0;
inline constexpr std::int32_t kRelayLane = 1;
using MessageLanes = std::array<MessageLane, 2>;

/// What one rank does in every run of a plan. All addresses are resolved: running allocates nothing.
///
/// Nothing blocks for ever. Call a window on a hop an item; window_order() is a total order of items, equal on all
/// ranks, and each lane posts its items in it. Take the first item x that is not finished.
/// - Both lanes that hold x have finished all that they post before it, so x is at their head, or posted. It therefore
///   matches at the other end: of the items between two ranks, relayed ones and others each keep the order.
/// - x finds its slot free: the item that had it before is finished. If that is a window in staging, its forwards must
///   be, too: they follow it directly in the order (same delay, next step; check_routes()), hence come before x, as no
///   rank receives a window twice.
/// - x may be posted whatever number of messages is in flight: the last place of a direction is kept for the lane that
///   has nothing in flight, as x's lane has not if x is not posted.
/// - The bytes of x are there: the hop that brings them comes before it.
/// - x does not wait for messages to the same peer (Transport::most_per_peer): those of its lane before it are
/// finished.
/// - A window is complete once its sender has confirmed it (Confirmations). That waits for what comes before it in the
///   order only, so the groups of the next point wait for nothing that comes after x.
/// - Where k groups may be open, x is not held back either: the order is by position of the group first, which is the
///   same for all receivers of a route. What groups at positions <= p - k need is messages of these positions (forwards
///   are of the position at which they came), which are finished, and copies, which need no message but the
///   unconditional handshake of the run and no groups but earlier ones.
/// One slot, or one message in flight, is enough for a lane; where there is only one for a direction, it has one lane.
struct Program {
  std::vector<GroupCopies> local;  ///< moves and fills within the rank, in the rank's order of groups
  std::vector<GroupCopies> pulls;  ///< copies out of peers' memory, in the rank's order of groups
  MessageLanes sends;
  MessageLanes receives;
  std::set<std::vector<std::int32_t>> works;  ///< what MessageStep::work points to: most messages share one with others
  std::vector<std::int32_t> work_of_group;    ///< by position: copies and messages that must be done for the group
  std::int32_t first_group = 0;               ///< with which the rank's order begins
  std::int32_t num_open = 0;                  ///< groups of which bytes are accepted at once
  std::int32_t most_in_flight = 0;  ///< messages posted at once per direction; 0: a fixed number beyond the slots
  std::int64_t staging_bytes = 0;
  std::unique_ptr<Copier> copier;  ///< has the batches, and the slots that sends and receives point into

  std::int64_t bytes_same_rank = 0;
  std::int64_t bytes_mapped = 0;
  std::int64_t bytes_sent = 0;
  std::int64_t bytes_received = 0;

  std::int32_t position_of(std::int32_t group) const {
    const auto count = static_cast<std::int32_t>(work_of_group.size());
    return (group - first_group + count) % count;
  }
  std::int64_t num_sends() const {
    return static_cast<std::int64_t>(sends[kFirstLane].steps.size() + sends[kRelayLane].steps.size());
  }
};

/// Expands the plan for one rank, whose copies `copier` will make. Allocates the staging; errors: those of the copier,
/// RESHARD_ERR_OUT_OF_MEMORY among them.
/// @pre check_routes(plan) is ok, as it is for every plan that was created or loaded
/// @post staging_bytes <= plan.options.staging_bytes
Result<Program> build_program(const Plan& plan, std::int32_t rank, const RankMemory& memory,
                              std::unique_ptr<Copier> copier);

/// Ranks whose source this rank may read directly, ascending: those that send to it and to nobody else on a route.
std::vector<std::int32_t> sources_of(const Plan& plan, std::int32_t rank);

}  // namespace reshard
