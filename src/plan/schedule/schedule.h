// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/plan/plan.h"

namespace reshard {

/// Gives every route its rounds, by colouring the edges of the matrix of bytes between domains, and bounds the messages
/// in flight. The rounds order the windows; nobody waits for a round to end. Later crossings of a tree follow the first
/// by one round each. What never leaves its domain is spread over all rounds: links are not scheduled. All routes are
/// coloured anew, also those that were kept of an older plan. @pre the plan has a machine
void schedule_routes(Plan* plan);

}  // namespace reshard
