// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "src/transport/messenger.h"

namespace reshard {

/// What a rank has to say to a peer about a run. Its values only grow within a run, so that one message says all that
/// earlier ones did, and a state that was not sent yet may be replaced by the next.
struct Snapshot {
  static constexpr std::int64_t kReady = 1;      ///< you may read my source
  static constexpr std::int64_t kDone = 2;       ///< I have read all groups that I read of your source
  static constexpr std::int64_t kAbandoned = 4;  ///< I gave the run up
  static constexpr std::int64_t kLeft = 8;       ///< I destroyed my binding: there will be no other run

  std::int64_t run = 0;  ///< 0: none yet
  std::int64_t flags = 0;
  // By kind of the window: 0 from its first rank, 1 relayed. See Confirmations.
  std::array<std::int64_t, 2> num_confirmed{};  ///< windows that I gave you for good
  std::array<std::int64_t, 2> num_read{};       ///< windows that I have read in your memory
  bool says(std::int64_t flag) const { return (flags & flag) != 0; }
};

/// The control stream between this rank and each peer that the plan joins it with, for the life of a binding: to each
/// peer at most one small message in flight, of each one receive always posted. Messages of earlier runs are known by
/// their run and dropped, so that nothing of a failed run is left in a queue.
///
/// A plan may join a rank with a thousand peers, and most turns bring news of none. So nothing here looks at all peers
/// in a turn: requests that ended come on a list (EndedRequests), peers with something to be sent stand on another, and
/// those of which something new is known on a third, for whoever draws conclusions.
class Control {
 public:
  /// Telling the peers what there is to tell takes a driver at most this long.
  static constexpr std::int64_t kAnnounceUs = 20'000;

  /// `peers` ascending; a peer is called by its index in them from here on. `tag` is the binding's own.
  Control(std::vector<std::int32_t> peers, std::uint64_t tag, Messenger* messenger);
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  const std::vector<std::int32_t>& peers() const { return ranks_; }
  std::size_t index_of(std::int32_t rank) const;  ///< of one of them
  bool has(std::int32_t rank) const;

  void begin(std::int64_t run);
  Status receive(bool* moved);  ///< takes what came; then take_changed() says from whom
  Status send(bool* moved);     ///< sends what changed

  void say(std::size_t peer, std::int64_t flag);
  void confirm(std::size_t peer, std::size_t kind, std::int64_t num_confirmed);
  void tell_read(std::size_t peer, std::size_t kind, std::int64_t num_read);

  /// What the peer said of the current run; all zero before it said anything.
  const Snapshot& heard(std::size_t peer) const { return peers_[peer].heard; }

  /// How a peer is lost for the current run.
  enum class Loss : std::uint8_t {
    kNone,
    kAbandoned,
    kMovedOn,  ///< it speaks of a later run: it has finished this one, or given it up and could not say so
    kLeft
  };
  Loss loss(std::size_t peer) const;

  /// Whether the peer has spoken of the current run or a later one. One that then leaves without giving it up has
  /// finished it.
  bool has_come(std::size_t peer) const { return peers_[peer].heard.run == run_ || peers_[peer].later.run > run_; }

  /// Whether any peer ever gave a run up.
  bool has_failed() const { return has_failed_; }

  /// Nothing more will come of this peer: it is known to have left, though its word for that has not come.
  void lose(std::size_t peer);

  /// Replaces *changed by the peers of which heard() or loss() may have changed since the last call; all, after
  /// begin().
  void take_changed(std::vector<std::size_t>* changed);

  bool is_flushed() const { return num_unflushed_ == 0; }  ///< all that was said is sent

  /// Tells every peer `flag`, kAbandoned or kLeft, as far as that goes by the deadline.
  void announce(std::int64_t flag, const Deadline& deadline);

  /// Takes back what is in flight; false when something could not be: then this object must be kept.
  bool close();

  /// Ranks that may still write to this binding's tag: those that have not left.
  std::vector<std::int32_t> staying() const;

 private:
  struct Letter : Request {
    std::size_t peer = 0;
    bool is_mine = false;  // from this rank to the peer
  };
  struct Peer {
    Letter in;
    Letter out;
    Snapshot in_buffer;
    Snapshot out_buffer;
    Snapshot mine;   // what I say of the current run
    Snapshot heard;  // of the current run
    Snapshot later;  // what it said of a run that this rank has not started
    bool is_unsent = false;
    bool is_queued = false;     // in unsent_
    bool is_changed = false;    // in changed_
    bool is_unflushed = false;  // counted in num_unflushed_
    bool has_left = false;
  };

  Status listen(std::size_t peer);
  Status post(std::size_t peer);
  void take(std::size_t peer);
  void queue(std::size_t peer);
  void note_change(std::size_t peer);
  void count_unflushed(std::size_t peer);

  std::vector<std::int32_t> ranks_;
  std::vector<Peer> peers_;
  std::uint64_t tag_;
  Messenger* messenger_;
  std::int64_t run_ = 0;
  bool has_failed_ = false;
  EndedRequests ended_;               // of all peers, both directions
  std::vector<std::size_t> unsent_;   // peers that something is to be sent to, as soon as the last message has ended
  std::vector<std::size_t> changed_;  // see take_changed()
  std::size_t num_unflushed_ = 0;     // peers that have not been sent all that was said, and have not left
};

}  // namespace reshard
