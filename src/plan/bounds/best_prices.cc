// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/bounds/best_prices.h"

#include <algorithm>
#include <string>
#include <utility>

#include "src/plan/bounds/prices/certificate.h"
#include "src/plan/loads.h"

namespace reshard::bounds {
namespace {

/// The kinds of resources for which bytes pay, those of more than a tenth of all that can be paid, the most first.
std::string dear(const Machine& machine, const std::vector<std::uint64_t>& prices,
                 const std::vector<std::int64_t>& capacities) {
  std::vector<std::pair<double, const char*>> kinds(kNumResourceKinds);
  double all = 0;
  for (std::size_t r = 0; r < prices.size(); ++r) {
    const double part = static_cast<double>(prices[r]) * static_cast<double>(capacities[r]);
    const ResourceKind kind = machine.kind_of(static_cast<std::int32_t>(r));
    auto& [sum, its_name] = kinds[static_cast<std::size_t>(kind)];
    sum += part;
    its_name = name(kind);
    all += part;
  }
  std::stable_sort(kinds.begin(), kinds.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  std::string out;
  for (const auto& [sum, its_name] : kinds) {
    if (sum * 10 > all) out += (out.empty() ? "" : ", ") + std::string(its_name);
  }
  return out;
}

}  // namespace

Bound best_prices(const Plan& plan, const DomainSets& domains, const std::vector<std::int64_t>& loads,
                  double known_seconds) {
  const Machine& machine = *plan.options.machine;
  Bound out;
  out.name = "LB9 prices";
  const routing::Fabric fabric(machine);
  std::vector<Piece> pieces;
  for (std::size_t b = 0; b < plan.bundles.size(); ++b) {
    if (plan.bundles[b].size_bytes > 0) pieces.push_back({static_cast<std::int32_t>(b), plan.bundles[b].size_bytes});
  }
  std::vector<std::int64_t> copies(static_cast<std::size_t>(machine.num_resources()));
  for_each_local_copy(plan, [&](std::int32_t bundle, std::int32_t rank) {
    at(copies, machine.resource(ResourceKind::kMemory, rank)) += 2 * at(plan.bundles, bundle).size_bytes;
  });
  const Task task{plan.bundles, domains, pieces, copies};
  const Certificate found = certify(fabric, task, loads, known_seconds);
  out.seconds = found.bound.seconds();
  if (out.seconds > 0) out.resource = dear(machine, found.prices, fabric.capacities);
  return out;
}

}  // namespace reshard::bounds
