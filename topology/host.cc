// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "topology/host.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace reshard {
namespace {

std::string counted(std::size_t count, const std::string& noun) {
  if (count == 0) return "no " + noun + "s";
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string listed(const std::vector<std::string>& names, const std::string& noun) {
  const std::string count = counted(names.size(), noun);
  return names.empty() ? count : fmt::format("{} ({})", count, fmt::join(names, ", "));
}

}  // namespace

std::string to_string(const HostInfo& host) {
  return fmt::format("{}: {}, {}, L3 {} MiB, {}, {}", host.hostname,
                     counted(static_cast<std::size_t>(host.num_cores), "core"),
                     counted(static_cast<std::size_t>(host.num_numa_nodes), "NUMA node"), host.l3_bytes >> 20,
                     listed(host.nics, "NIC"), listed(host.gpus, "GPU"));
}

}  // namespace reshard
