// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The machine that the ranks of a comm run on. Each rank looks at its own host; exchange_nodes() makes one machine of
// what all found. Looking may fail on one rank alone (a container that hides /sys), so its error is exchanged as well:
// else the others would wait for it until their time is up.
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <mutex>
#include <string>

#include "src/api/error.h"
#include "src/api/handles.h"
#include "src/api/node_exchange.h"
#include "topology/discover/discover.h"

using namespace reshard;  // NOLINT(google-build-using-namespace): this file is the boundary
using reshard::api::check_not_null;
using reshard::api::check_struct;
using reshard::api::check_timeout;
using reshard::api::guard;
using reshard::api::kDefaultTimeoutUs;
using reshard::api::OwnNode;

namespace {

reshard_machine_discover_options_t defaults() {
  reshard_machine_discover_options_t options;
  reshard_machine_discover_options_init(&options);
  return options;
}

/// What the kernel drew when it started: other machines, also clones with the same name, have another. "" where it
/// cannot be read, and then the name has to do.
std::string read_boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string line;
  std::getline(file, line);
  return line;
}

/// Everything that can go wrong here goes to the other ranks, too.
Result<OwnNode> find_own_node(const reshard_machine_discover_options_t& options) {
  if (options.nic_bits_per_s < 0) {
    return invalid_argument(fmt::format("nic_bits_per_s is {}; 0 is what the kernel says", options.nic_bits_per_s));
  }
  if (options.gpu < -1) {
    return invalid_argument(
        fmt::format("gpu is {}; give an index, or -1 for the rank's place on its host", options.gpu));
  }
  std::array<char, 256> hostname{};  // the longest that POSIX allows, and its end
  if (gethostname(hostname.data(), hostname.size() - 1) != 0) {
    return Status(RESHARD_ERR_INTERNAL, "this host's name cannot be read");
  }
  DiscoverOptions wanted;
  wanted.nic_bytes_per_s = options.nic_bits_per_s / 8;
  RESHARD_TRY(DiscoveredNode found, discover_node(wanted));
  return OwnNode{hostname.data(), to_text(found.node),       std::move(found.domain_id),
                 options.gpu,     std::move(found.warnings), read_boot_id()};
}

}  // namespace

extern "C" {

void reshard_machine_discover_options_init_sized(reshard_machine_discover_options_t* options, size_t struct_size) {
  reshard_machine_discover_options_t defaults{};
  defaults.gpu = -1;
  defaults.timeout_us = kDefaultTimeoutUs;
  reshard::api::init_struct(options, struct_size, defaults);
}

reshard_status_t reshard_machine_discover(reshard_comm_t comm, const reshard_machine_discover_options_t* options,
                                          reshard_machine_t* machine) {
  if (machine != nullptr) *machine = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(comm, "comm"));
    RESHARD_TRY(check_not_null(machine, "machine"));
    if (options != nullptr) RESHARD_TRY(check_struct(options, "reshard_machine_discover_options_t"));
    const reshard_machine_discover_options_t chosen = options == nullptr ? defaults() : *options;
    RESHARD_TRY(check_timeout(chosen.timeout_us));
    const Deadline deadline(chosen.timeout_us);
    const std::lock_guard turn(comm->transport->turn());
    // What this rank could not find goes into the exchange as an error, and comes back to all as one.
    RESHARD_TRY(api::GatheredMachine gathered,
                api::exchange_nodes(find_own_node(chosen), comm->transport.get(), deadline));
    auto handle = std::make_unique<reshard_machine>();
    handle->machine = std::make_shared<const Machine>(std::move(gathered.machine));
    handle->warnings = std::move(gathered.warnings);
    *machine = handle.release();
    return {};
  });
}

}  // extern "C"
