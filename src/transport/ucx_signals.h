// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

namespace reshard {

/// UCX's library takes signals over when it is loaded, before main(): SIGHUP, so that the program outlives its
/// terminal, and those of crashes, to print a backtrace. Gives back to each of them the disposition it had before.
void give_back_signals();

}  // namespace reshard
