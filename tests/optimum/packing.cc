// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
//   least T  with  sum of x_t over the trees t of a piece = its bytes          (a row for each piece)
//                  sum of x_t * times t passes r - T * capacity of r <= 0      (a row for each resource)
//
// For any prices p of resources, not below 0, T is at least the sum over pieces of bytes * cost of their cheapest tree,
// over the sum of capacity * p: the other side of the same program. So both ends come closer with every round.
#include "tests/optimum/packing.h"

#include <coin/Clp_C_Interface.h>

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <stdexcept>

#include "tests/optimum/cheapest_tree.h"

namespace reshard::optimum {
namespace {

constexpr int kMostRounds = 600;
constexpr double kGiga = 1e9;  // bytes as GB, rates as GB/s: numbers near 1

struct DeleteModel {
  void operator()(Clp_Simplex* model) const { Clp_deleteModel(model); }
};

class Packing {
 public:
  Packing(const SmallCluster& cluster, const std::vector<Piece>& pieces)
      : cluster_(cluster), pieces_(pieces), model_(Clp_newModel()) {
    Clp_setLogLevel(model_.get(), 0);
    const int num_rows = static_cast<int>(pieces.size() + cluster.capacities().size());
    Clp_resize(model_.get(), num_rows, 0);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      Clp_rowLower(model_.get())[i] = Clp_rowUpper(model_.get())[i] = static_cast<double>(pieces[i].bytes) / kGiga;
    }
    std::vector<int> rows;
    std::vector<double> entries;
    for (std::size_t r = 0; r < cluster.capacities().size(); ++r) {
      rows.push_back(row_of(r));
      entries.push_back(-cluster.capacities()[r] / kGiga);
      Clp_rowLower(model_.get())[row_of(r)] = -std::numeric_limits<double>::max();
      Clp_rowUpper(model_.get())[row_of(r)] = 0;
    }
    add_column(1, rows, entries);
  }

  Optimum run(double precision) {
    Optimum out;
    // The first trees are the cheapest where each resource costs what its use delays.
    std::vector<double> prices;
    for (const double capacity : cluster_.capacities()) prices.push_back(kGiga / capacity);
    std::vector<double> best = prices;
    add_trees(prices);
    for (; out.num_rounds < kMostRounds; ++out.num_rounds) {
      prices = solve(&out.at_most_seconds);
      if (out.at_most_seconds <= out.at_least_seconds * (1 + precision)) break;
      // Prices of the last round swing; those between them and the best so far give better trees and a better bound.
      std::vector<double> between(prices.size());
      for (std::size_t r = 0; r < prices.size(); ++r) between[r] = 0.7 * best[r] + 0.3 * prices[r];
      offer(between, &best, &out.at_least_seconds);
      offer(prices, &best, &out.at_least_seconds);
    }
    out.num_trees = num_trees_;
    return out;
  }

 private:
  int row_of(std::size_t resource) const { return static_cast<int>(pieces_.size() + resource); }

  void add_column(double cost, const std::vector<int>& rows, const std::vector<double>& entries) {
    const double lower = 0;
    const double upper = std::numeric_limits<double>::max();
    const CoinBigIndex starts[] = {0, static_cast<CoinBigIndex>(rows.size())};
    Clp_addColumns(model_.get(), 1, &lower, &upper, &cost, starts, rows.data(), entries.data());
  }

  /// The prices of the resources, whose sum over capacities is 1.
  std::vector<double> solve(double* seconds) {
    Clp_primal(model_.get(), 0);
    if (Clp_status(model_.get()) != 0) throw std::runtime_error("CLP found no optimum");
    *seconds = Clp_objectiveValue(model_.get());
    std::vector<double> prices;
    double sum = 0;
    for (std::size_t r = 0; r < cluster_.capacities().size(); ++r) {
      prices.push_back(std::max(0.0, -Clp_dualRowSolution(model_.get())[row_of(r)]));
      sum += prices.back() * cluster_.capacities()[r] / kGiga;
    }
    for (double& price : prices) price /= sum;
    return prices;
  }

  /// Adds the cheapest trees at these prices; keeps the prices if they prove more than the best so far.
  void offer(const std::vector<double>& prices, std::vector<double>* best, double* at_least) {
    const double proved = add_trees(prices);
    if (proved <= *at_least) return;
    *at_least = proved;
    *best = prices;
  }

  /// What these prices prove of every plan's time.
  double add_trees(const std::vector<double>& prices) {
    double sum = 0;
    for (std::size_t r = 0; r < prices.size(); ++r) sum += prices[r] * cluster_.capacities()[r] / kGiga;
    const Costs costs = costs_at(prices);
    double proved = 0;
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      const Tree tree = cheapest_tree(costs, pieces_[i].holders, pieces_[i].wanted);
      proved += static_cast<double>(pieces_[i].bytes) / kGiga * tree.cost;
      add_tree(i, tree);
    }
    return proved / sum;
  }

  Costs costs_at(const std::vector<double>& prices) const {
    const auto n = static_cast<std::size_t>(cluster_.num_ranks());
    Costs costs(n, std::vector<double>(n, std::numeric_limits<double>::infinity()));
    for (std::size_t u = 0; u < n; ++u) {
      for (std::size_t v = 0; v < n; ++v) {
        if (!cluster_.has_way(static_cast<int>(u), static_cast<int>(v))) continue;
        costs[u][v] = 0;
        for (const int r : cluster_.path(static_cast<int>(u), static_cast<int>(v))) {
          costs[u][v] += prices[static_cast<std::size_t>(r)];
        }
      }
    }
    return costs;
  }

  void add_tree(std::size_t piece, const Tree& tree) {
    std::map<int, double> times;
    for (const auto& [from, to] : tree.arcs) {
      for (const int r : cluster_.path(from, to)) times[row_of(static_cast<std::size_t>(r))] += 1;
    }
    std::vector<int> rows = {static_cast<int>(piece)};
    std::vector<double> entries = {1};
    for (const auto& [row, count] : times) {
      rows.push_back(row);
      entries.push_back(count);
    }
    add_column(0, rows, entries);
    ++num_trees_;
  }

  const SmallCluster& cluster_;
  const std::vector<Piece>& pieces_;
  std::unique_ptr<Clp_Simplex, DeleteModel> model_;
  int num_trees_ = 0;
};

}  // namespace

Optimum find_optimum(const SmallCluster& cluster, const std::vector<Piece>& pieces, double precision) {
  return Packing(cluster, pieces).run(precision);
}

}  // namespace reshard::optimum
