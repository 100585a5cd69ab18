// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <functional>
#include <string>

#include "src/base/status.h"
#include "src/transport/collective.h"
#include "src/transport/deadline.h"

namespace reshard {

/// How a call came out that was made on a thread of its own.
struct Detour {
  bool is_back = false;  ///< false: the thread is still inside the call, and `call` with all that it holds lives on
  Status status;         ///< what the call returned, or why nobody waits for it any more
};

/// In so much more than `timeout_us`, which may be infinite.
Deadline later(std::int64_t timeout_us, std::int64_t more_us);

/// A little after `deadline`: for a detour whose call looks at that deadline itself, and comes back after it.
inline Deadline after(const Deadline& deadline) {
  return later(deadline.remaining_us(), 100'000);
}

/// Makes a call that may block for as long as a peer likes on another thread, and leaves it there at the deadline, or
/// when `collective` (may be null) knows a peer to be gone. So what the call uses must be its own, or shared.
Detour make_detour(const std::string& what, std::function<Status()> call, const Deadline& deadline,
                   Collective* collective);

}  // namespace reshard
