// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A unit is the least that a section can be made of: domains that a port, a leaf or a pod joins which is not shared. A
// unit is described by all that a plan asks of its ranks, things in it by the order in which they come. Units of equal
// description are of a kind, and each section takes as many of each kind as any other.
#include "src/plan/routing/sections.h"

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <utility>

#include "src/base/at.h"

namespace reshard::routing {
namespace {

/// Numbers for what holds and wants the same: by rank; 0: nothing. Each set of ranks parts those in it from the others.
IndexedVector<RankId, std::int32_t> roles_of(const Plan& plan) {
  std::vector<bool> is_used(static_cast<std::size_t>(plan.sets.size()));
  for (const Bundle& bundle : plan.bundles) {
    if (bundle.size_bytes == 0) continue;
    is_used[static_cast<std::size_t>(bundle.sources)] = true;
    is_used[static_cast<std::size_t>(bundle.destinations)] = true;
  }
  IndexedVector<RankId, std::int32_t> roles(static_cast<std::size_t>(plan.num_ranks));
  std::vector<std::int32_t> within = {-1};  // by role: that of those who are in the set at hand, too
  std::vector<std::int32_t> parted;
  for (std::int32_t set = 0; set < plan.sets.size(); ++set) {
    if (!is_used[static_cast<std::size_t>(set)]) continue;
    for (const std::int32_t rank : plan.sets.ranks(set)) {
      std::int32_t& role = roles[RankId(rank)];
      if (at(within, role) < 0) {
        parted.push_back(role);
        at(within, role) = static_cast<std::int32_t>(within.size());
        within.push_back(-1);
      }
      role = at(within, role);
    }
    for (const std::int32_t role : parted) at(within, role) = -1;
    parted.clear();
  }
  return roles;
}

/// Joins numbers to groups. The least of a group stands for it.
class Groups {
 public:
  explicit Groups(std::size_t count) : parents_(count) { std::iota(parents_.begin(), parents_.end(), 0); }
  std::int32_t find(std::int32_t number) {
    while (at(parents_, number) != number) number = at(parents_, number) = at(parents_, at(parents_, number));
    return number;
  }
  void join(std::int32_t a, std::int32_t b) {
    const auto [least, other] = std::minmax({find(a), find(b)});
    at(parents_, other) = least;
  }

 private:
  std::vector<std::int32_t> parents_;
};

/// Numbers things in the order in which they come, anew for each unit.
class InOrder {
 public:
  std::int32_t operator()(std::int32_t thing) {
    return numbers_.try_emplace(thing, static_cast<std::int32_t>(numbers_.size())).first->second;
  }

 private:
  std::map<std::int32_t, std::int32_t> numbers_;
};

class Finder {
 public:
  Finder(const Plan& plan, Shared shared) : machine_(*plan.options.machine), shared_(shared), roles_(roles_of(plan)) {}

  Sections run() {
    find_units();
    std::map<std::vector<std::int32_t>, std::vector<std::size_t>> kinds;
    for (std::size_t u = 0; u < units_.size(); ++u) {
      if (has_role(units_[u])) kinds[description(units_[u])].push_back(u);
    }
    std::size_t count = 0;
    for (const auto& [unused, units] : kinds) count = std::gcd(count, units.size());
    Sections out;
    out.shared = shared_;
    if (count < 2) return out;
    out.ranks.resize(count);
    for (const auto& [unused, units] : kinds) {
      const std::size_t of_each = units.size() / count;
      for (std::size_t i = 0; i < units.size(); ++i) {
        const std::vector<std::int32_t>& ranks = units_[units[i]];
        std::vector<std::int32_t>& section = out.ranks[i / of_each];
        section.insert(section.end(), ranks.begin(), ranks.end());
      }
    }
    put_in_order(&out);
    return out;
  }

 private:
  bool owns_leaf(const Machine::Leaf& leaf) const {
    return shared_ != Shared::kLeaves && (leaf.up.is_limited() || leaf.down.is_limited());
  }
  bool owns_pods() const {
    const auto is_limited = [](const Machine::Pod& pod) { return pod.up.is_limited() || pod.down.is_limited(); };
    return shared_ == Shared::kNothing && machine_.pods.size() > 1 &&
           std::any_of(machine_.pods.begin(), machine_.pods.end(), is_limited);
  }

  /// Ranks by unit, ascending.
  void find_units() {
    Groups groups(machine_.domains.size());
    std::vector<std::int32_t> of_port(machine_.ports.size(), -1);  // a domain there
    std::vector<std::int32_t> of_leaf(machine_.leaves.size(), -1);
    std::vector<std::int32_t> of_pod(machine_.pods.size(), -1);
    const auto join = [&](std::int32_t domain, std::int32_t* first) {
      if (*first < 0) *first = domain;
      groups.join(domain, *first);
    };
    for (const Machine::Gpu& gpu : machine_.gpus) {
      if (!gpu.port.valid()) continue;
      const LeafId leaf = machine_.ports[gpu.port].leaf;
      join(gpu.domain, &at(of_port, gpu.port));
      if (owns_leaf(machine_.leaves[leaf])) join(gpu.domain, &at(of_leaf, leaf));
      if (owns_pods()) join(gpu.domain, &at(of_pod, machine_.leaves[leaf].pod));
    }
    std::vector<std::int32_t> unit_of(machine_.domains.size(), -1);
    for (const RankId rank : machine_.gpus.ids()) {
      std::int32_t& unit = at(unit_of, groups.find(machine_.gpus[rank].domain));
      if (unit < 0) {
        unit = static_cast<std::int32_t>(units_.size());
        units_.emplace_back();
      }
      at(units_, unit).push_back(rank);
    }
  }

  bool has_role(const std::vector<std::int32_t>& unit) const {
    return std::any_of(unit.begin(), unit.end(), [&](std::int32_t rank) { return roles_[RankId(rank)] != 0; });
  }

  /// All that a plan asks of its ranks, in their order.
  std::vector<std::int32_t> description(const std::vector<std::int32_t>& unit) {
    std::vector<std::int32_t> out;
    InOrder domain, port, leaf, pod;
    for (const std::int32_t number : unit) {
      const Machine::Gpu& gpu = machine_.gpus[RankId(number)];
      out.insert(out.end(), {roles_[RankId(number)], domain(gpu.domain), link(gpu.link), link(gpu.pcie),
                             link(gpu.memory), gpu.port.valid() ? port(gpu.port) : -1});
      if (!gpu.port.valid()) continue;
      const Machine::Port& its_port = machine_.ports[gpu.port];
      const Machine::Leaf& its_leaf = machine_.leaves[its_port.leaf];
      const Machine::Pod& its_pod = machine_.pods[its_leaf.pod];
      out.insert(out.end(), {its_port.rail, link(its_port.out), link(its_port.in), link(its_leaf.up),
                             link(its_leaf.down), link(its_pod.up), link(its_pod.down)});
      // What is shared has to be the very same. A leaf that limits nothing may be any.
      const bool is_shared_leaf = shared_ == Shared::kLeaves;
      const bool is_shared_pod = shared_ != Shared::kNothing;
      if (is_shared_leaf || owns_leaf(its_leaf)) out.push_back(is_shared_leaf ? its_port.leaf : leaf(its_port.leaf));
      if (is_shared_pod || owns_pods()) out.push_back(is_shared_pod ? its_leaf.pod : pod(its_leaf.pod));
    }
    return out;
  }

  std::int32_t link(const Link& link) {
    const auto found = std::find(links_.begin(), links_.end(), link);
    const auto number = static_cast<std::int32_t>(found - links_.begin());
    if (found == links_.end()) links_.push_back(link);
    return number;
  }

  /// By the ranks of the first section, so that its job reads like the whole.
  static void put_in_order(Sections* sections) {
    const std::vector<std::int32_t> first = sections->ranks.front();
    std::vector<std::size_t> order(first.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return first[a] < first[b]; });
    for (std::vector<std::int32_t>& ranks : sections->ranks) {
      std::vector<std::int32_t> ordered;
      ordered.reserve(ranks.size());
      for (const std::size_t place : order) ordered.push_back(ranks[place]);
      ranks = std::move(ordered);
    }
  }

  const Machine& machine_;
  const Shared shared_;
  const IndexedVector<RankId, std::int32_t> roles_;
  std::vector<std::vector<std::int32_t>> units_;  // their ranks
  std::vector<Link> links_;                       // different ones
};

}  // namespace

/// Sections that share nothing are found first: they are the ones that cannot hold each other up.
Sections find_sections(const Plan& plan) {
  for (const Shared shared : {Shared::kNothing, Shared::kPods, Shared::kLeaves}) {
    Sections sections = Finder(plan, shared).run();
    if (sections.count() >= 2) return sections;
  }
  return {};
}

}  // namespace reshard::routing
