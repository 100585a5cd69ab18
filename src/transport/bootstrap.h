// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The first thing that happens between ranks, and the last: processes that know no more than a name or an address find
// each other over TCP, exchange the addresses of the real transport, and keep the connections as a failure detector.
// TCP and not the fabric, because the kernel closes the connections of a process that dies, however it dies, and the
// others see it at once; UCX 1.13 without error handling never tells.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "reshard/reshard.h"
#include "src/base/status.h"
#include "src/transport/launch.h"
#include "src/transport/transport.h"

namespace reshard {

using Blob = std::vector<std::byte>;

/// How the ranks find each other before a transport connects them, and how they learn that one is gone. Used by one
/// thread.
class Bootstrap {
 public:
  /// Called again and again during a wait; returns whether it moved anything.
  using Progress = std::function<bool()>;

  virtual ~Bootstrap() = default;
  virtual std::int32_t rank() const = 0;
  virtual std::int32_t num_ranks() const = 0;

  /// Collective; blobs of any size, returned in rank order. One that fails for a rank fails for all, and the next one
  /// is in step again. RESHARD_ERR_TIMEOUT and RESHARD_ERR_PEER_FAILED name the ranks.
  virtual Result<std::vector<Blob>> allgather(const Blob& mine, const Deadline& deadline, const Progress& progress) = 0;

  /// OK, or RESHARD_ERR_PEER_FAILED naming a rank whose process ended without destroying its bootstrap. Never blocks.
  /// A thread of rank 0's takes the news in and passes them on, whatever rank 0 itself is doing.
  virtual Status health() = 0;

  /// The ranks that are known to have destroyed their bootstrap, as of the last call of the above, in the order of the
  /// news: the list only grows. Nothing is wrong with that unless somebody still waits for one of them. Once rank 0 has
  /// left nobody learns of other ranks any more.
  virtual std::span<const std::int32_t> departed() const = 0;
};

/// Called with a sentence that says for whom a rank waits when that takes longer than two seconds; may be empty.
using Notice = std::function<void(const std::string& text)>;

/// Opens the rendezvous of a unique id on this host and returns the id; address null: 127.0.0.1. The listening socket
/// stays open until rank 0 of the same process (or of a process forked from it) takes it over, or until the id is
/// destroyed in every process that holds it.
Result<reshard_unique_id_t> create_unique_id(const char* address);

/// Closes the socket where this process still holds it, else does nothing.
Status destroy_unique_id(const reshard_unique_id_t& id);

/// Joins the ranks that hold the id, over TCP: a star over rank 0. Its connections stay open: later all-gathers go over
/// them, and a closed one tells everybody that the rank is gone: rank 0 keeps a thread that sleeps until then.
Result<std::unique_ptr<Bootstrap>> create_tcp_bootstrap(const reshard_unique_id_t& id, std::int32_t rank,
                                                        std::int32_t num_ranks, const Deadline& deadline,
                                                        const Notice& notice = {});

/// The same at the place that a launcher's environment names.
Result<std::unique_ptr<Bootstrap>> create_launch_bootstrap(const Launch& launch, const Deadline& deadline,
                                                           const Notice& notice = {});

/// The same, where the caller's own all-gather tells everybody the addresses of rank 0. It is called once: it has
/// neither a deadline nor a failure detector, which every later wait must have. `deadline` begins anew when it has
/// returned: a rank that waited in it for others, who came late to the caller's own collective, has all its time left.
Result<std::unique_ptr<Bootstrap>> create_callback_bootstrap(reshard_allgather_fn allgather, void* user,
                                                             std::int32_t rank, std::int32_t num_ranks,
                                                             Deadline* deadline, const Notice& notice = {});

}  // namespace reshard
