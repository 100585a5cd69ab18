// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Rounds and orders. A round is no barrier: it is a part of the key by which every rank sorts its windows, so that at
// any time each port has about one partner to send to and one to receive from. What is coloured is the matrix of bytes
// between domains, not ranks: a domain's bytes are spread evenly over its ports already, so ports of a domain can all
// follow the same rounds, and the matrix is small.
//
// Rejected: barriers between rounds. Each round would last as long as its slowest message; an order only says what
// comes next.
//
// Only the first crossing of a route is an edge. Its later ones follow a round each behind (Hop::delay): a tree that is
// in step where it begins is in step all along.
#include "src/plan/schedule/schedule.h"

#include <algorithm>
#include <map>

#include "src/plan/schedule/colouring.h"

namespace reshard {
namespace {

// Rounds: enough that one is short beside the whole, few enough to colour thousands of domains in a second.
constexpr int kLog2Rounds = 10;
constexpr int kLog2RoundsOfMany = 8;
constexpr std::size_t kMany = 256;  // domains

/// The hop that crosses between domains first; -1 when none does.
std::int32_t first_crossing(const Machine& machine, const Plan& plan, const Route& route) {
  for (std::int32_t h = 0; h < route.num_hops; ++h) {
    const Hop& hop = plan.begin_hops(route)[h];
    if (!machine.same_domain(RankId(hop.src), RankId(hop.dst))) return h;
  }
  return -1;
}

/// Most ranks that share one port; at least 1.
std::int32_t most_ranks_per_port(const Machine& machine) {
  std::int32_t most = 1;
  std::vector<std::int32_t> num_ranks(machine.ports.size());
  for (const Machine::Gpu& gpu : machine.gpus) {
    if (gpu.port >= 0) most = std::max(most, ++at(num_ranks, gpu.port));
  }
  return most;
}

}  // namespace

/// An entry is a pair of domains and all bytes of routes that cross first between them; they share its rounds.
void schedule_routes(Plan* plan) {
  const Machine& machine = *plan->options.machine;
  plan->most_in_flight = std::max(1, kMostPeersPerPort / most_ranks_per_port(machine));
  std::map<std::pair<std::int32_t, std::int32_t>, std::size_t> index;
  std::vector<Entry> entries;
  std::vector<Route>& routes = plan->routes.distinct();  // on a machine none is repeated: each has rounds of its own
  std::vector<std::ptrdiff_t> entry_of(routes.size(), -1);
  for (std::size_t r = 0; r < routes.size(); ++r) {
    const Route& route = routes[r];
    const std::int32_t crossing = first_crossing(machine, *plan, route);
    if (crossing < 0) continue;
    const Hop& hop = plan->begin_hops(route)[crossing];
    const std::pair pair{at(machine.gpus, hop.src).domain, at(machine.gpus, hop.dst).domain};
    const auto [entry, is_new] = index.try_emplace(pair, entries.size());
    if (is_new) entries.push_back({pair.first, pair.second, 0});
    entries[entry->second].bytes += route.size_bytes;
    entry_of[r] = static_cast<std::ptrdiff_t>(entry->second);
  }
  const auto num_domains = static_cast<std::int32_t>(machine.domains.size());
  // Senders and receivers are the same domains on two sides of the matrix: ports carry both directions at once.
  Rounds rounds =
      colour(entries, num_domains, num_domains, machine.domains.size() > kMany ? kLog2RoundsOfMany : kLog2Rounds);
  // What stays inside a domain is spread over all rounds: it has the list of them, which stands behind the entries'
  // own. Where nothing crosses they serve it alone: in one round the routes would go one after the other, each with
  // only its own relay busy.
  const auto all_rounds = static_cast<std::int32_t>(rounds.numbers.size());
  plan->rounds = std::move(rounds.numbers);
  const std::int32_t num_rounds = rounds.num_rounds == 0 ? 1 << kLog2Rounds : rounds.num_rounds;
  for (std::int32_t i = 0; i < num_rounds; ++i) plan->rounds.push_back(i);
  for (std::size_t r = 0; r < routes.size(); ++r) {
    Route& route = routes[r];
    route.first_round = entry_of[r] < 0 ? all_rounds : static_cast<std::int32_t>(at(rounds.first, entry_of[r]));
    const auto end =
        entry_of[r] < 0 ? static_cast<std::int64_t>(plan->rounds.size()) : at(rounds.first, entry_of[r] + 1);
    route.num_rounds = static_cast<std::int32_t>(end) - route.first_round;
  }
}

}  // namespace reshard
