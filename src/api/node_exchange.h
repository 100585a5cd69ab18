// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/status.h"
#include "src/transport/transport.h"
#include "topology/machine.h"

namespace reshard::api {

/// What a rank found where it runs.
struct OwnNode {
  std::string hostname;
  std::string text;       ///< to_text of its node
  std::string domain_id;  ///< of NVLink across nodes; "": none
  std::int32_t gpu = -1;  ///< its index on the node; -1: the rank's place among the ranks of its host
  std::vector<std::string> warnings{};
  std::string boot_id{};  ///< of its kernel, for hosts may share a name; "": not known
};

struct GatheredMachine {
  Machine machine;
  std::vector<std::string> warnings;  ///< one host's once, with its name
};

/// Collective: the machine that all ranks' nodes make, equal on every rank. `mine` may be an error: then all ranks fail
/// with it, the others naming the rank. RESHARD_ERR_PLAN_MISMATCH when ranks make different machines of one answer.
Result<GatheredMachine> exchange_nodes(const Result<OwnNode>& mine, Transport* transport, const Deadline& deadline);

}  // namespace reshard::api
