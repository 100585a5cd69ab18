// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/exec/control.h"
#include "src/transport/transport.h"

namespace reshard {

/// Turns a RESHARD_ERR_TRANSPORT that ended a run into what caused it, where that becomes known within 20 ms. A
/// connection, or a communicator, breaks when a peer dies, and when it gives the run up: the news of its death, or its
/// own word, comes another way and a little later. Other statuses stay as they are.
void learn_more(Control* control, Transport* transport, Status* status);

}  // namespace reshard
