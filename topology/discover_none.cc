// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "topology/host.h"

namespace reshard {
namespace {

Status without_hwloc() {
  return {RESHARD_ERR_NOT_SUPPORTED, "this build has no hwloc; install libhwloc-dev and build again"};
}

}  // namespace

Result<HostInfo> discover_host() {
  return without_hwloc();
}

Result<HostInfo> host_from_xml(const std::string&) {
  return without_hwloc();
}

}  // namespace reshard
