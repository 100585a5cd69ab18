// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>

namespace reshard::api {

/// Reads one variable of the process's environment; null when it is not set. The only place that does: everything
/// below is given what it needs. The variables are those of the launchers (see reshard_comm_create_from_environment).
const char* read_environment(const char* name);

/// The name of the process that started this one, cut to 15 characters by the kernel; empty when it is hidden. A
/// launcher that is the parent has started this process, whatever variables were inherited from another.
std::string parent_process();

}  // namespace reshard::api
