// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// Compiled as C++17: LEMON 1.3.1 calls std::allocator::construct, which C++20 has no longer.
#include "tests/unit/plan/lemon_oracle.h"

#include <lemon/list_graph.h>
#include <lemon/network_simplex.h>
#include <lemon/preflow.h>
#include <lemon/smart_graph.h>

#include <algorithm>

namespace reshard {
namespace {

using Graph = lemon::SmartDigraph;

/// A network of demands and sources in which only the capacities of the sources depend on the level.
class LevelNetwork {
 public:
  LevelNetwork(const std::vector<LemonDemand>& demands, const std::vector<std::int64_t>& capacities,
               const std::vector<std::int64_t>& base)
      : capacities_(capacities), base_(base), limit_(graph_) {
    start_ = graph_.addNode();
    end_ = graph_.addNode();
    for (std::size_t s = 0; s < capacities.size(); ++s) {
      source_.push_back(graph_.addNode());
      out_.push_back(graph_.addArc(source_.back(), end_));
      largest_ = std::max(largest_, capacities[s]);
    }
    for (const LemonDemand& demand : demands) {
      const Graph::Node node = graph_.addNode();
      limit_[graph_.addArc(start_, node)] = demand.bytes;
      total_ += demand.bytes;
      for (const std::int32_t s : demand.sources) {
        limit_[graph_.addArc(node, source_[static_cast<std::size_t>(s)])] = demand.bytes;
      }
    }
  }

  bool carries_all_at(std::int64_t level) {
    for (std::size_t s = 0; s < out_.size(); ++s) {
      const auto room = static_cast<std::int64_t>(static_cast<__int128>(level) * capacities_[s] / largest_);
      if (capacities_[s] > 0 && room < base_[s]) return false;
      limit_[out_[s]] = capacities_[s] > 0 ? room - base_[s] : 0;
    }
    lemon::Preflow<Graph, Graph::ArcMap<std::int64_t>> flow(graph_, limit_, start_, end_);
    flow.runMinCut();
    return flow.flowValue() == total_;
  }

 private:
  std::vector<std::int64_t> capacities_, base_;
  Graph graph_;
  Graph::ArcMap<std::int64_t> limit_;
  Graph::Node start_, end_;
  std::vector<Graph::Node> source_;
  std::vector<Graph::Arc> out_;
  std::int64_t largest_ = 0;
  std::int64_t total_ = 0;
};

}  // namespace

bool has_lemon() {
  return true;
}

std::int64_t lemon_min_level(const std::vector<LemonDemand>& demands, const std::vector<std::int64_t>& capacities,
                             const std::vector<std::int64_t>& base) {
  LevelNetwork network(demands, capacities, base);
  std::int64_t low = -1;  // does not carry all
  std::int64_t high = 1;
  while (!network.carries_all_at(high)) high *= 2;
  if (network.carries_all_at(0)) return 0;
  low = high / 2 > 0 && !network.carries_all_at(high / 2) ? high / 2 : 0;
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (network.carries_all_at(middle) ? high : low) = middle;
  }
  return high;
}

std::int64_t lemon_min_assignment(const std::vector<std::int64_t>& cost, std::int32_t n) {
  Graph graph;
  std::vector<Graph::Node> nodes;
  for (std::int32_t i = 0; i < 2 * n; ++i) nodes.push_back(graph.addNode());
  Graph::NodeMap<std::int64_t> supply(graph);
  Graph::ArcMap<std::int64_t> price(graph);
  const auto size = static_cast<std::size_t>(n);
  for (std::size_t row = 0; row < size; ++row) {
    supply[nodes[row]] = 1;
    supply[nodes[size + row]] = -1;
    for (std::size_t column = 0; column < size; ++column) {
      price[graph.addArc(nodes[row], nodes[size + column])] = cost[row * size + column];
    }
  }
  lemon::NetworkSimplex<Graph, std::int64_t, std::int64_t> simplex(graph);
  simplex.supplyMap(supply).costMap(price).run();
  return simplex.totalCost<std::int64_t>();
}

}  // namespace reshard
