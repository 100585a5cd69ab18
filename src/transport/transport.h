// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What the drivers (src/exec) ask of whatever moves bytes between ranks, in three parts: messages that match by tag
// (Messenger), memory that a peer on the same host can map (PeerMemory), and an all-gather with the news of who is gone
// (Collective). They are narrow on purpose, so that one suite of tests holds for every transport, and apart, since not
// everything that does one does the others: memory of a device is mapped by other means than memory of the host. All
// are polled: nothing calls back, and only idle(), allgather() and cancel_all() wait, so that the driver decides when
// the caller's thread sleeps.
#pragma once

#include <string>

#include "src/transport/collective.h"
#include "src/transport/messenger.h"
#include "src/transport/peer_memory.h"
#include "src/transport/turn.h"

namespace reshard {

/// All three in one object per rank, used by one thread at a time: threads that share it hold turn() while they call
/// anything else of it.
class Transport : public Collective, public Messenger, public PeerMemory {
 public:
  virtual std::string name() const = 0;  ///< "local", "ucx"

  /// Whose turn it is to use this object.
  Turn& turn() { return turn_; }

 private:
  Turn turn_;
};

}  // namespace reshard
