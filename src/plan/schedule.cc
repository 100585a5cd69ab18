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
// Only the first crossing of a route is an edge. Its later ones follow a round each behind (Hop::delay): a chain that
// is in step with its head is in step all along.
#include "src/plan/schedule.h"

#include <algorithm>
#include <map>

#include "src/plan/colouring.h"
#include "src/plan/loads.h"

namespace reshard {
namespace {

// A port with more open connections than this loses speed to their state. Every message in flight may be with another
// peer, so the ranks of a port share this number; one message each is the least that moves anything.
constexpr std::int32_t kMostPeersPerPort = 64;

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

/// For each group the sources of most of its bytes, named by the first of their ranks: what tells pipeline stages
/// apart, without knowing of any. -1 for a group without bytes.
std::vector<std::int32_t> main_sources(const Plan& plan) {
  std::vector<std::map<std::int32_t, std::int64_t>> bytes(plan.groups.size());
  const GroupSplitter splitter(plan);
  std::vector<GroupBytes> parts;
  for (std::size_t b = 0; b < plan.bundles.size(); ++b) {
    const Bundle& bundle = plan.bundles[b];
    if (bundle.size_bytes == 0) continue;
    parts.clear();
    splitter.split({static_cast<std::int32_t>(b), 0, bundle.size_bytes}, &parts);
    for (const GroupBytes& part : parts) {
      at(bytes, part.group)[plan.sets.ranks(bundle.sources).front()] += part.bytes;
    }
  }
  std::vector<std::int32_t> out;
  for (const auto& of_group : bytes) {
    const auto most = std::max_element(of_group.begin(), of_group.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    out.push_back(most == of_group.end() ? -1 : most->first);
  }
  return out;
}

/// The groups with which another stage's begin.
std::vector<std::int32_t> stage_starts(const Plan& plan) {
  std::vector<std::int32_t> starts;
  const std::vector<std::int32_t> sources = main_sources(plan);
  for (std::size_t g = 0; g < sources.size(); ++g) {
    if (g == 0 || sources[g] != sources[g - 1]) starts.push_back(static_cast<std::int32_t>(g));
  }
  return starts;
}

}  // namespace

/// An entry is a pair of domains and all bytes of routes that cross first between them; they share its rounds. Without
/// a machine there is nothing to colour, and windows go by group and number.
void schedule_routes(const Network& network, Plan* plan) {
  plan->most_in_flight = std::max(1, kMostPeersPerPort / network.most_ranks_per_port());
  if (plan->options.machine == nullptr) return;
  std::map<std::pair<std::int32_t, std::int32_t>, std::size_t> index;
  std::vector<Entry> entries;
  std::vector<Route>& routes = plan->routes.distinct();  // on a machine none is repeated: each has rounds of its own
  std::vector<std::ptrdiff_t> entry_of(routes.size(), -1);
  for (std::size_t r = 0; r < routes.size(); ++r) {
    const Route& route = routes[r];
    const std::int32_t crossing = first_crossing(network.machine, *plan, route);
    if (crossing < 0) continue;
    const Hop& hop = plan->begin_hops(route)[crossing];
    const std::pair pair{at(network.machine.gpus, hop.src).domain, at(network.machine.gpus, hop.dst).domain};
    const auto [entry, is_new] = index.try_emplace(pair, entries.size());
    if (is_new) entries.push_back({pair.first, pair.second, 0});
    entries[entry->second].bytes += route.size_bytes;
    entry_of[r] = static_cast<std::ptrdiff_t>(entry->second);
  }
  const auto num_domains = static_cast<std::int32_t>(network.machine.domains.size());
  // Senders and receivers are the same domains on two sides of the matrix: ports carry both directions at once.
  Rounds rounds = colour(entries, num_domains, num_domains,
                         network.machine.domains.size() > kMany ? kLog2RoundsOfMany : kLog2Rounds);
  // What stays inside a domain is spread over all rounds: it has the list of them, which stands behind the entries'
  // own.
  const auto all_rounds = static_cast<std::int32_t>(rounds.numbers.size());
  plan->rounds = std::move(rounds.numbers);
  for (std::int32_t i = 0; i < std::max(1, rounds.num_rounds); ++i) plan->rounds.push_back(i);
  for (std::size_t r = 0; r < routes.size(); ++r) {
    Route& route = routes[r];
    route.first_round = entry_of[r] < 0 ? all_rounds : static_cast<std::int32_t>(at(rounds.first, entry_of[r]));
    const auto end =
        entry_of[r] < 0 ? static_cast<std::int64_t>(plan->rounds.size()) : at(rounds.first, entry_of[r] + 1);
    route.num_rounds = static_cast<std::int32_t>(end) - route.first_round;
  }
}

/// All ranks of a domain begin alike, since they are served by the same routes. Begins are those of stages
/// (stage_starts), so that at any time different replicas draw from different stages. If all began with group 0, one
/// stage would send to all replicas while the others wait for their turn, and P stages would take up to P times as
/// long.
void choose_first_groups(const DomainSets& domains, const Network& network, Plan* plan) {
  plan->first_groups.assign(static_cast<std::size_t>(plan->num_ranks), 0);
  if (plan->options.open_groups == 0 || plan->options.order == GroupOrder::kFixed) return;
  const std::vector<std::int32_t> starts = stage_starts(*plan);
  // Counterparts need the same bundles: they are numbered within each bundle, those first that fewest domains share;
  // a domain keeps its first number.
  std::vector<const RanksByDomain*> wanted;
  for (const Bundle& bundle : plan->bundles) wanted.push_back(&domains.of(bundle.destinations));
  std::stable_sort(wanted.begin(), wanted.end(),
                   [](const auto* a, const auto* b) { return a->num_domains() < b->num_domains(); });
  // Fewer replicas than stages keep as far from each other as they can.
  const auto num_starts = static_cast<std::int32_t>(starts.size());
  const auto start_of = [&](std::int32_t replica, std::int32_t count) {
    return count <= num_starts ? replica * num_starts / count : replica % num_starts;
  };
  std::vector<std::int32_t> number(network.machine.domains.size(), -1);
  for (const RanksByDomain* view : wanted) {
    std::int32_t next = 0;
    for (const std::int32_t domain : view->domains) {
      std::int32_t& mine = at(number, domain);
      if (mine < 0) mine = start_of(next, static_cast<std::int32_t>(view->num_domains()));
      ++next;
    }
  }
  for (std::size_t d = 0; d < number.size(); ++d) {
    if (number[d] < 0) continue;
    const std::int32_t first = starts[static_cast<std::size_t>(number[d])];
    for (const std::int32_t rank : at(network.machine.domains, d).ranks) at(plan->first_groups, rank) = first;
  }
}

}  // namespace reshard
