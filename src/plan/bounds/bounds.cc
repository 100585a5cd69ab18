// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What no plan can beat. Nearly every bound is a cut: put ranks on two sides, count the bytes that are needed on one
// and held only on the other, and divide by what joins the sides. A byte counts once for a cut, whatever number of
// ranks behind it wants it, since one copy may be handed on there: so a bound holds for plans with relays and
// multicast, too. The largest is printed beside every estimate, with its name, so that it shows what would have to be
// bought or changed to become quicker.
//
// Bytes are integers and seconds are doubles: a plan is judged by its bounds but never made by them, so that their last
// digits may differ between machines.
#include "src/plan/bounds/bounds.h"

#include <algorithm>

#include "src/plan/bounds/best_prices.h"
#include "src/plan/bounds/cuts.h"
#include "src/plan/bounds/order_bound.h"
#include "src/plan/bounds/region_bound.h"

namespace reshard {
namespace {

/// Something that has to cross takes the latencies of one port out and one port in, at least: the least of all ports,
/// as any may be the one.
Bound latency(const bounds::Cuts& cuts) {
  Bound out;
  out.name = "LB10 latency";
  const std::vector<std::int64_t>& entering = cuts.bytes.entering;
  if (std::all_of(entering.begin(), entering.end(), [](std::int64_t bytes) { return bytes == 0; })) return out;
  std::int64_t least_in_ns = INT64_MAX;
  std::int64_t least_out_ns = INT64_MAX;
  for (const Machine::Port& port : cuts.machine.ports) {
    least_in_ns = std::min<std::int64_t>(least_in_ns, port.in.latency_ns);
    least_out_ns = std::min<std::int64_t>(least_out_ns, port.out.latency_ns);
  }
  out.seconds = static_cast<double>(least_in_ns + least_out_ns) * 1e-9;
  out.resource = "one crossing of the network";
  return out;
}

}  // namespace

std::vector<Bound> find_bounds(const Plan& plan, const std::vector<std::int64_t>& loads) {
  const bounds::Cuts cuts(plan);
  std::vector<Bound> out = {bounds::gpu_ingress(cuts), bounds::domain_ingress(cuts), bounds::domain_egress(cuts),
                            bounds::source_sets(cuts)};
  out.push_back(leaf_bound(plan, cuts.domains));
  out.push_back(pod_bound(plan, cuts.domains));
  if (cuts.machine.rail_isolated) {
    out.push_back(bounds::rails(cuts));
    out.push_back(bounds::rail_changes(cuts));
  }
  out.push_back(bounds::shared_ports(cuts));
  out.push_back(bounds::memory(cuts));
  out.push_back(bounds::pcie(cuts));
  out.push_back(bounds::best_prices(plan, cuts.domains, loads, largest(out).seconds));
  out.push_back(latency(cuts));
  if (plan.options.open_groups > 0) out.push_back(order_bound(plan, cuts.domains));
  return out;
}

Bound largest(const std::vector<Bound>& bounds) {
  Bound out;
  for (const Bound& bound : bounds) {
    if (bound.seconds > out.seconds) out = bound;
  }
  return out;
}

}  // namespace reshard
