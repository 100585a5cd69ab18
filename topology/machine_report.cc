// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "topology/machine_report.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

namespace reshard {

std::string machine_json(const Machine& machine, const std::vector<std::string>& warnings) {
  nlohmann::json links = nlohmann::json::array();
  for (int k = 0; k < kNumResourceKinds; ++k) {
    const auto kind = static_cast<ResourceKind>(k);
    const std::int32_t end =
        k + 1 < kNumResourceKinds ? machine.resource(static_cast<ResourceKind>(k + 1), 0) : machine.num_resources();
    std::map<std::int64_t, std::int64_t> counts;  // by rate
    for (std::int32_t r = machine.resource(kind, 0); r < end; ++r) ++counts[machine.link_of(r).bytes_per_s()];
    for (const auto& [rate, count] : counts) {
      if (rate > 0) links.push_back({{"class", name(kind)}, {"bytes_per_s", rate}, {"count", count}});
    }
  }
  const nlohmann::json out = {{"name", machine.name},
                              {"digest", fmt::format("{:016x}", machine.digest())},
                              {"ranks", machine.num_ranks()},
                              {"nodes", machine.nodes.size()},
                              {"domains", machine.domains.size()},
                              {"ports", machine.ports.size()},
                              {"leaves", machine.leaves.size()},
                              {"pods", machine.pods.size()},
                              {"rail_isolated", machine.rail_isolated},
                              {"links", links},
                              {"warnings", warnings}};
  // Names come from files and paths, which need not be UTF-8.
  return out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace reshard
