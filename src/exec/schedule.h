// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What one rank does in every run of a plan, without an address: a function of the plan, the rank, and of who reads
// whose memory. The steps are of five kinds: copy, send, receive, signal (a peer is told that it may read, or that this
// rank has read) and await. They are not listed one by one, for they come in few patterns:
//   a window that is sent:     copy (pack), send
//   a window that is received: receive, copy (unpack)
//   a window that is lent:     signal once it is here, await that the peer has read it
//   a window that is read:     await the signal, copy out of the peer's memory, signal that it was read
//   a group within the rank:   copy
//   a group out of a peer's source, which is there from the start: await ready, copy, signal
// Regions are bytes of a window, or of ranges of bundles; the fragments in them are made again from the plan where they
// are needed (bound_schedule.h), since a rank of a large job has a million.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <tuple>
#include <vector>

#include "src/base/indexed_vector.h"
#include "src/plan/plan.h"
#include "src/plan/windows.h"

namespace reshard {

using RankFlags = IndexedVector<RankId, bool>;

/// What this rank and each other rank are to each other, as both of them know. Empty flags: no rank.
struct RankLinks {
  RankFlags reads_source;         ///< whose source this rank reads in place
  RankFlags reads_destination;    ///< whose destination
  RankFlags source_read_by;       ///< who reads this rank's source
  RankFlags destination_read_by;  ///< and its destination
  /// Peers that sends, or receives, cannot be taken back from: none goes straight from or to a tensor. Of this end
  /// only.
  RankFlags stages_sends;
  RankFlags stages_receives;
  bool stages_all = false;  ///< the messenger cannot move the tensors' memory: no message goes straight from or to it

  static bool has(const RankFlags& flags, std::int32_t rank) { return !flags.empty() && flags[RankId(rank)]; }
};

/// The end of a window on this rank, other than the peer's.
enum class Place : std::uint8_t {
  kSource,
  kDestination,
  kSlot,  ///< bytes that only pass through: they leave from the slot that they came to
};

/// A window of one direction: lane, and index in it.
struct StepId {
  std::int32_t lane = -1;  ///< -1: none
  std::uint32_t index = 0;
};

/// A window on a hop, at one of its ends.
struct WindowStep {
  WindowOrder order;
  std::int32_t hop = 0;  ///< index in the route
  std::int32_t peer = -1;
  std::int64_t size_bytes = 0;
  std::int32_t slot = -1;         ///< position in the lane's ring of slots; -1: no slot of its own
  std::int32_t num_forwards = 0;  ///< of a receive to a slot: sends out of it
  std::int32_t work = 0;          ///< index in Schedule::works
  StepId feed;                    ///< of what goes out: what brings the window to this rank; none: it is the source's
  Place place = Place::kDestination;
  bool is_relayed = false;    ///< its hop has a parent; both ends know, and tags tell
  bool is_direct = false;     ///< a message straight from or to the tensor, which holds the window in one run of bytes
  bool is_passed_on = false;  ///< of a send: the receiver sends it on, so it should be whole there soon

  /// The plan's one order, on all ranks.
  auto key() const { return std::tuple{order.key(), hop}; }
};

/// The windows of one direction that take their turns together, in the plan's one order, with a ring of slots of their
/// own.
struct Lane {
  std::vector<WindowStep> steps;
  std::int32_t num_slots = 0;
};

/// The windows of one direction: messages from their first rank, messages that are relayed, and windows that are read
/// in place. A relayed message at the head of its lane, whose bytes are still on their way here, so holds up no other.
inline constexpr std::int32_t kFirstLane = 0;
inline constexpr std::int32_t kRelayLane = 1;
inline constexpr std::int32_t kMappedLane = 2;  ///< read in place by the receiver: lent, or read
inline constexpr std::int32_t kNumMessageLanes = 2;
using Lanes = std::array<Lane, 3>;

/// Copies that belong to one completion group.
struct GroupStep {
  std::int32_t position = 0;  ///< of the group in this rank's order
  std::int32_t peer = -1;     ///< whose source is read; -1: this rank's own
};

/// Nothing blocks for ever. check_schedules() proves it on the steps of all ranks, for this reason: call a window on a
/// hop an item; window_order() is a total order of items, equal on all ranks, and each lane takes its items in it. Take
/// the first item x that is not finished.
/// - Both lanes that hold x have finished all that they post before it, so x is at their head, or posted. It therefore
///   matches at the other end: of the items between two ranks, relayed ones and others each keep the order.
/// - x finds its slot free: the item that had it before is finished. If that is a window in staging, its forwards must
///   be, too: they follow it directly in the order (same delay, next step; check_routes()), hence come before x, as no
///   rank receives a window twice.
/// - x may be posted whatever number of messages is in flight: the last place of a direction is kept for the lane that
///   has nothing in flight, as x's lane has not if x is not posted.
/// - The bytes of x are there: the hop that brings them comes before it.
/// - x does not wait for messages to the same peer (Messenger::most_per_peer): those of its lane before it are
///   finished.
/// - A window is complete once its sender has confirmed it (Confirmations). That waits for what comes before it in the
///   order only, so the groups of the next point wait for nothing that comes after x.
/// - A window that is read in place takes no slot and no turn. It is confirmed before it is read, so it waits for what
///   comes before it, and what waits for its having been read is the group, or the end of the run.
/// - Where k groups may be open, x is not held back either: the order is by position of the group first, which is the
///   same for all receivers of a route. What groups at positions <= p - k need is windows of these positions (forwards
///   are of the position at which they came), which are finished, and copies, which need no message but the
///   unconditional handshake of the run and no groups but earlier ones.
/// - A group that is converted once it landed waits for nothing but its own windows and copies, so it counts as a copy.
/// One slot, or one message in flight, is enough for a lane; where there is only one for a direction, it has one lane.
struct Schedule {
  std::int32_t rank = 0;
  std::vector<GroupStep> local;             ///< moves and fills within the rank, in the rank's order of groups
  std::vector<GroupStep> pulls;             ///< out of peers' sources, in the rank's order of groups
  std::vector<std::int64_t> pulled_routes;  ///< whose bytes the pulls are, ascending
  std::vector<std::int32_t> pulled_by;      ///< ranks with pulls out of this rank's source, ascending
  std::vector<std::int32_t> finishes;       ///< positions of groups that are converted once they landed, ascending
  Lanes out;                                ///< sent, sent, lent
  Lanes in;                                 ///< received, received, read
  std::int64_t slot_bytes = 0;              ///< one size for all, so that any window fits any slot
  /// Sets of positions of groups, each ascending, that cannot be complete before a window is done with: most windows
  /// share theirs with others.
  std::vector<std::vector<std::int32_t>> works;
  std::vector<std::int32_t> work_of_group;  ///< by position: copies and windows that must be done for the group
  std::int32_t first_group = 0;             ///< with which the rank's order begins
  std::int32_t num_open = 0;                ///< groups of which bytes are accepted at once
  std::int32_t most_in_flight = 0;  ///< messages posted at once per direction; 0: a fixed number beyond the slots

  std::int64_t bytes_same_rank = 0;
  std::int64_t bytes_mapped = 0;
  std::int64_t bytes_sent = 0;
  std::int64_t bytes_received = 0;

  std::span<const std::int32_t> work_of(const WindowStep& step) const { return at(works, step.work); }
  std::int32_t position_of(std::int32_t group) const {
    const auto count = static_cast<std::int32_t>(work_of_group.size());
    return (group - first_group + count) % count;
  }
  std::int64_t num_sends() const {
    return static_cast<std::int64_t>(out[kFirstLane].steps.size() + out[kRelayLane].steps.size());
  }
  std::int64_t staging_bytes() const;
};

/// @pre check_routes(plan) is ok, as it is for every plan that was created or loaded
/// @post staging_bytes() <= plan.options.staging_bytes
Schedule build_schedule(const Plan& plan, std::int32_t rank, const RankLinks& links);

/// Ranks that read each other's memory where it can be mapped, ascending: those on the two ends of a hop whose bytes
/// lie in tensors at both. Those of hops from the source read sources, those of later hops destinations.
struct InPlacePeers {
  std::vector<std::int32_t> sources;              ///< whose source this rank may read
  std::vector<std::int32_t> destinations;         ///< whose destination
  std::vector<std::int32_t> source_readers;       ///< who may read this rank's source
  std::vector<std::int32_t> destination_readers;  ///< and its destination
};
InPlacePeers in_place_peers(const Plan& plan, std::int32_t rank);

/// Ranks that a schedule exchanges anything with, ascending: the peers of its control stream.
std::vector<std::int32_t> peers_of(const Schedule& schedule);

}  // namespace reshard
