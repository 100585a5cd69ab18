// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <hwloc.h>

#include <memory>
#include <string>

#include "src/base/status.h"

namespace reshard {

struct HwlocDeleter {
  void operator()(hwloc_topology_t topology) const { hwloc_topology_destroy(topology); }
};
using HwlocTopology = std::unique_ptr<hwloc_topology, HwlocDeleter>;

/// This host, with its GPUs and NICs.
Result<HwlocTopology> load_topology();
/// The same of a recorded host. Errors: RESHARD_ERR_INVALID_ARGUMENT for a text that hwloc does not take.
Result<HwlocTopology> load_topology(const std::string& xml);

}  // namespace reshard
