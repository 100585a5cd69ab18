// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/base/status.h"
#include "src/transport/deadline.h"

namespace reshard {

/// The ranks as a whole: who they are, what all of them say, and who of them is gone.
class Collective {
 public:
  virtual ~Collective() = default;

  virtual std::int32_t rank() const = 0;
  virtual std::int32_t num_ranks() const = 0;

  /// Collective all-gather of blobs of any size, in rank order. Messages progress while it waits, so it is also the
  /// barrier before teardown. RESHARD_ERR_TIMEOUT names the ranks that were missing where they are known.
  virtual Result<std::vector<std::vector<std::byte>>> allgather(const std::vector<std::byte>& mine,
                                                                const Deadline& deadline) = 0;

  /// OK, or RESHARD_ERR_PEER_FAILED naming a peer that is known to be gone. Costs a system call: not for every turn.
  virtual Status health() = 0;

  /// The ranks that are known, as of the last health() or allgather(), to have destroyed their transport, in the order
  /// of the news: the list only grows. Messages that such a rank sent before may still come.
  /// Apart from health(), since leaving is no failure: at the end of a job the first rank to be done leaves while
  /// others still take in what it sent them.
  virtual std::span<const std::int32_t> departed() const = 0;
};

}  // namespace reshard
