// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/transport/collective.h"

namespace reshard {

/// Collective: OK on every rank when `mine` is OK on all of them, else an error on every rank. A rank whose own part
/// failed gets its own status back, the others the first rank's that failed, with its number in front. Where
/// votes could not be exchanged, those whose own part was well get the error of allgather().
Status vote(Collective* collective, const Status& mine, const Deadline& deadline);

}  // namespace reshard
