// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <memory>

#include "reshard/reshard.h"

namespace reshard::perf {

/// Destroys whichever handle of the library it is given.
struct HandleDeleter {
  void operator()(reshard_layout_t layout) const { reshard_layout_destroy(layout); }
  void operator()(reshard_machine_t machine) const { reshard_machine_destroy(machine); }
  void operator()(reshard_plan_t plan) const { reshard_plan_destroy(plan); }
  void operator()(reshard_comm_t comm) const { reshard_comm_destroy(comm); }
  void operator()(reshard_binding_t binding) const { reshard_binding_destroy(binding); }
};

// Ownership as the C API has it: whoever creates destroys.
using Layout = std::unique_ptr<reshard_layout, HandleDeleter>;
using Machine = std::unique_ptr<reshard_machine, HandleDeleter>;
using Plan = std::unique_ptr<reshard_plan, HandleDeleter>;
using Comm = std::unique_ptr<reshard_comm, HandleDeleter>;
using Binding = std::unique_ptr<reshard_binding, HandleDeleter>;

}  // namespace reshard::perf
