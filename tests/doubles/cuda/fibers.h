// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The threads of one block as fibers of one thread of the processor. A fiber runs until it ends or meets a barrier;
// then the next one runs. The order is always the same, so that what is found once is found again.
#pragma once

#include <cstdint>
#include <functional>

namespace reshard::testing {

/// Runs `body` once for each thread of a block, until all have ended. May be called from within a body: the inner block
/// runs to its end first. Throws std::runtime_error when some threads wait at a barrier that others have passed by, and
/// what a body throws, without running the other threads on.
void run_block(std::uint32_t block, std::uint32_t num_threads, const std::function<void()>& body);

// Within a body.
std::uint32_t current_thread();
std::uint32_t current_block();
void block_barrier();
bool any_lane(bool predicate);  ///< of the warp: 32 threads, all of which must call it

}  // namespace reshard::testing
