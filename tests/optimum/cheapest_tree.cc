// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/optimum/cheapest_tree.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace reshard::optimum {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

/// What is left of arcs that reach all that is wanted, if each node is entered once, from the holders outwards, and
/// nothing leads nowhere. It costs no more than the arcs.
Tree prune(const Costs& costs, const std::vector<std::pair<int, int>>& arcs, const std::vector<int>& holders,
           const std::vector<int>& wanted) {
  std::vector<int> parent(costs.size(), -1);
  std::vector<int> reached = holders;
  for (std::size_t i = 0; i < reached.size(); ++i) {
    for (const auto& [from, to] : arcs) {
      if (from != reached[i] || std::find(reached.begin(), reached.end(), to) != reached.end()) continue;
      parent[static_cast<std::size_t>(to)] = from;
      reached.push_back(to);
    }
  }
  std::vector<bool> is_needed(costs.size());
  for (int node : wanted) {
    for (; node >= 0 && !is_needed[static_cast<std::size_t>(node)]; node = parent[static_cast<std::size_t>(node)]) {
      is_needed[static_cast<std::size_t>(node)] = true;
    }
  }
  Tree tree;
  for (const int node : wanted) {
    if (std::find(reached.begin(), reached.end(), node) == reached.end()) return {{}, kNever};
  }
  for (const int node : reached) {  // parents first
    const int from = parent[static_cast<std::size_t>(node)];
    if (from < 0 || !is_needed[static_cast<std::size_t>(node)]) continue;
    tree.arcs.emplace_back(from, node);
    tree.cost += costs[static_cast<std::size_t>(from)][static_cast<std::size_t>(node)];
  }
  return tree;
}

/// Dreyfus and Wagner's recursion. best_[S][v]: the cheapest tree from v to all of S; split_[S][v]: that of them which
/// parts at v into two, so that best_ is the way to some u and split_ there.
class SubsetsOfWanted {
 public:
  SubsetsOfWanted(const Costs& costs, const std::vector<int>& holders, const std::vector<int>& wanted)
      : costs_(costs), holders_(holders), wanted_(wanted), n_(costs.size()), way_(costs), next_(n_) {
    find_ways();
    const std::size_t num_sets = std::size_t{1} << wanted.size();
    best_.assign(num_sets, std::vector<double>(n_, kNever));
    split_ = best_;
    for (std::size_t set = 1; set < num_sets; ++set) fill(set);
  }

  Tree run() {
    const std::size_t all = best_.size() - 1;
    // From all holders at once: root_[S] is a tree from one of them, or two of such.
    std::vector<double> root(best_.size(), kNever);
    for (std::size_t set = 1; set <= all; ++set) {
      root[set] = best_[set][cheapest_holder(set)];
      for (std::size_t part = (set - 1) & set; part > 0; part = (part - 1) & set) {
        root[set] = std::min(root[set], root[part] + root[set ^ part]);
      }
    }
    collect_from_holders(root, all);
    return prune(costs_, arcs_, holders_, wanted_);
  }

 private:
  /// The cheapest way between any two, and its first step.
  void find_ways() {
    for (std::size_t u = 0; u < n_; ++u) {
      next_[u].resize(n_);
      for (std::size_t v = 0; v < n_; ++v) next_[u][v] = v;
      way_[u][u] = 0;
    }
    for (std::size_t k = 0; k < n_; ++k) {
      for (std::size_t u = 0; u < n_; ++u) {
        for (std::size_t v = 0; v < n_; ++v) {
          if (way_[u][k] + way_[k][v] >= way_[u][v]) continue;
          way_[u][v] = way_[u][k] + way_[k][v];
          next_[u][v] = next_[u][k];
        }
      }
    }
  }

  void fill(std::size_t set) {
    std::vector<double>& split = split_[set];
    if ((set & (set - 1)) == 0) {  // one node: it is there
      std::size_t index = 0;
      while ((set >> index) != 1) ++index;
      split[static_cast<std::size_t>(wanted_[index])] = 0;
    } else {
      const std::size_t lowest = set & (~set + 1);  // in the first part, so that no split is tried twice
      for (std::size_t part = (set - 1) & set; part > 0; part = (part - 1) & set) {
        if ((part & lowest) == 0) continue;
        for (std::size_t v = 0; v < n_; ++v) split[v] = std::min(split[v], best_[part][v] + best_[set ^ part][v]);
      }
    }
    for (std::size_t v = 0; v < n_; ++v) {
      for (std::size_t u = 0; u < n_; ++u) best_[set][v] = std::min(best_[set][v], way_[v][u] + split[u]);
    }
  }

  std::size_t cheapest_holder(std::size_t set) const {
    const auto cost = [&](int holder) { return best_[set][static_cast<std::size_t>(holder)]; };
    return static_cast<std::size_t>(
        *std::min_element(holders_.begin(), holders_.end(), [&](int a, int b) { return cost(a) < cost(b); }));
  }

  void collect_from_holders(const std::vector<double>& root, std::size_t set) {
    const std::size_t holder = cheapest_holder(set);
    if (best_[set][holder] <= root[set]) return collect(set, holder);
    for (std::size_t part = (set - 1) & set; part > 0; part = (part - 1) & set) {
      if (root[part] + root[set ^ part] > root[set]) continue;
      collect_from_holders(root, part);
      return collect_from_holders(root, set ^ part);
    }
  }

  void collect(std::size_t set, std::size_t v) {
    std::size_t u = 0;
    while (way_[v][u] + split_[set][u] > best_[set][v]) ++u;
    for (std::size_t at = v; at != u; at = next_[at][u]) {
      arcs_.emplace_back(static_cast<int>(at), static_cast<int>(next_[at][u]));
    }
    if ((set & (set - 1)) == 0) return;
    const std::size_t lowest = set & (~set + 1);
    for (std::size_t part = (set - 1) & set; part > 0; part = (part - 1) & set) {
      if ((part & lowest) == 0 || best_[part][u] + best_[set ^ part][u] > split_[set][u]) continue;
      collect(part, u);
      return collect(set ^ part, u);
    }
  }

  const Costs& costs_;
  const std::vector<int>& holders_;
  const std::vector<int>& wanted_;
  std::size_t n_;
  Costs way_;
  std::vector<std::vector<std::size_t>> next_;
  std::vector<std::vector<double>> best_;
  std::vector<std::vector<double>> split_;
  std::vector<std::pair<int, int>> arcs_;
};

/// Chu and Liu's arborescence: each node takes its cheapest entry; a circle becomes one node, and so on. Node 0 is the
/// root. Gives the node from which each is entered.
std::vector<std::size_t> arborescence(const Costs& costs) {
  const std::size_t n = costs.size();
  std::vector<std::size_t> entry(n, 0);
  for (std::size_t v = 1; v < n; ++v) {
    for (std::size_t u = 1; u < n; ++u) {
      if (u != v && costs[u][v] < costs[entry[v]][v]) entry[v] = u;
    }
  }
  // Walks back from every node until it comes to the root, or to a node twice.
  std::vector<std::size_t> seen_from(n, 0);
  std::vector<bool> is_in_circle(n);
  bool has_circle = false;
  for (std::size_t start = 1; start < n && !has_circle; ++start) {
    std::size_t v = start;
    while (v != 0 && seen_from[v] == 0) {
      seen_from[v] = start;
      v = entry[v];
    }
    if (v == 0 || seen_from[v] != start) continue;
    has_circle = true;
    for (std::size_t u = v; !is_in_circle[u]; u = entry[u]) is_in_circle[u] = true;
  }
  if (!has_circle) return entry;

  std::vector<std::size_t> old;  // by number in the smaller graph; the circle is its last node
  for (std::size_t v = 0; v < n; ++v) {
    if (!is_in_circle[v]) old.push_back(v);
  }
  const std::size_t circle = old.size();
  Costs smaller(circle + 1, std::vector<double>(circle + 1, kNever));
  std::vector<std::size_t> enters(circle + 1);  // which node of the circle an arc from there is for
  std::vector<std::size_t> leaves(circle + 1);
  for (std::size_t a = 0; a < circle; ++a) {
    for (std::size_t b = 0; b < circle; ++b) smaller[a][b] = costs[old[a]][old[b]];
    for (std::size_t v = 0; v < n; ++v) {
      if (!is_in_circle[v]) continue;
      const double more = costs[old[a]][v] - costs[entry[v]][v];  // than what entered v in the circle
      if (more < smaller[a][circle]) smaller[a][circle] = more, enters[a] = v;
      if (costs[v][old[a]] < smaller[circle][a]) smaller[circle][a] = costs[v][old[a]], leaves[a] = v;
    }
  }
  const std::vector<std::size_t> found = arborescence(smaller);
  for (std::size_t b = 1; b < circle; ++b) entry[old[b]] = found[b] == circle ? leaves[b] : old[found[b]];
  entry[enters[found[circle]]] = old[found[circle]];
  return entry;
}

/// The cheapest tree that enters each of `nodes`, and no other.
Tree tree_over(const Costs& costs, const std::vector<int>& holders, const std::vector<int>& nodes,
               const std::vector<int>& wanted) {
  Costs among(nodes.size() + 1, std::vector<double>(nodes.size() + 1, kNever));
  std::vector<int> holder_for(nodes.size());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const auto to = static_cast<std::size_t>(nodes[i]);
    for (const int holder : holders) {
      const double cost = costs[static_cast<std::size_t>(holder)][to];
      if (cost < among[0][i + 1]) among[0][i + 1] = cost, holder_for[i] = holder;
    }
    for (std::size_t j = 0; j < nodes.size(); ++j) {
      if (i != j) among[j + 1][i + 1] = costs[static_cast<std::size_t>(nodes[j])][to];
    }
  }
  const std::vector<std::size_t> entry = arborescence(among);
  std::vector<std::pair<int, int>> arcs;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const std::size_t from = entry[i + 1];
    if (among[from][i + 1] == kNever) return {{}, kNever};  // there is no such tree
    arcs.emplace_back(from == 0 ? holder_for[i] : nodes[from - 1], nodes[i]);
  }
  return prune(costs, arcs, holders, wanted);
}

}  // namespace

Tree cheapest_by_subsets_of_wanted(const Costs& costs, const std::vector<int>& holders,
                                   const std::vector<int>& wanted) {
  return SubsetsOfWanted(costs, holders, wanted).run();
}

Tree cheapest_by_sets_of_relays(const Costs& costs, const std::vector<int>& holders, const std::vector<int>& wanted) {
  std::vector<int> others;
  for (int rank = 0; rank < static_cast<int>(costs.size()); ++rank) {
    const auto is_in = [&](const std::vector<int>& set) {
      return std::find(set.begin(), set.end(), rank) != set.end();
    };
    if (!is_in(holders) && !is_in(wanted)) others.push_back(rank);
  }
  Tree best{{}, kNever};
  for (std::uint32_t set = 0; set < (1U << others.size()); ++set) {
    std::vector<int> nodes = wanted;
    for (std::size_t i = 0; i < others.size(); ++i) {
      if ((set >> i & 1) != 0) nodes.push_back(others[i]);
    }
    Tree tree = tree_over(costs, holders, nodes, wanted);
    if (tree.cost < best.cost) best = std::move(tree);
  }
  return best;
}

Tree cheapest_tree(const Costs& costs, const std::vector<int>& holders, const std::vector<int>& wanted) {
  const std::size_t num_others = costs.size() - holders.size() - wanted.size();
  return num_others + 4 < wanted.size() || wanted.size() > 11 ? cheapest_by_sets_of_relays(costs, holders, wanted)
                                                              : cheapest_by_subsets_of_wanted(costs, holders, wanted);
}

}  // namespace reshard::optimum
