// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// hwloc with its failures as statuses. A recorded host is passed as a text and not by hwloc's variable for it: with a
// wrong file name that one loads the machine it runs on, without a word.
#include "topology/discover/hwloc_topology.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <limits>

namespace reshard {
namespace {

Status hwloc_failed(reshard_status_t code, const char* what) {
  return {code, fmt::format("hwloc: {} failed: {}", what, std::strerror(errno))};
}

Result<HwlocTopology> make_topology() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return hwloc_failed(RESHARD_ERR_INTERNAL, "hwloc_topology_init");
  HwlocTopology topology(raw);
  // Without a filter hwloc leaves every device out; "important" keeps GPUs and NICs and drops bridges without devices.
  if (hwloc_topology_set_io_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_IMPORTANT) != 0) {
    return hwloc_failed(RESHARD_ERR_INTERNAL, "hwloc_topology_set_io_types_filter");
  }
  return topology;
}

}  // namespace

Result<HwlocTopology> load_topology() {
  RESHARD_TRY(HwlocTopology topology, make_topology());
  if (hwloc_topology_load(topology.get()) != 0) {
    return hwloc_failed(RESHARD_ERR_INTERNAL, "hwloc_topology_load of this host");
  }
  return topology;
}

Result<HwlocTopology> load_topology(const std::string& xml) {
  if (xml.size() >= static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    return invalid_argument(fmt::format("hwloc XML of {} bytes is longer than hwloc takes", xml.size()));
  }
  RESHARD_TRY(HwlocTopology topology, make_topology());
  // hwloc counts the terminating zero. Some builds parse here, others only in load.
  const int size = static_cast<int>(xml.size()) + 1;
  if (hwloc_topology_set_xmlbuffer(topology.get(), xml.c_str(), size) != 0 ||
      hwloc_topology_load(topology.get()) != 0) {
    return hwloc_failed(RESHARD_ERR_INVALID_ARGUMENT, "reading the XML text (hwloc 2 is needed, not 3)");
  }
  return topology;
}

}  // namespace reshard
