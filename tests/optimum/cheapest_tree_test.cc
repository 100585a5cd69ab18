// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The oracle's own proof: two ways of finding the cheapest tree that share nothing agree, and the trees are trees.
#include "tests/optimum/cheapest_tree.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/optimum/random.h"

namespace reshard::optimum {
namespace {

struct Problem {
  Costs costs;
  std::vector<int> holders;
  std::vector<int> wanted;
};

Problem draw(Random& random) {
  Problem problem;
  const int n = random.between(2, 8);
  const int most = random.of({1, 3, 20, 1000});  // the smaller, the more ties
  for (int u = 0; u < n; ++u) {
    problem.costs.emplace_back();
    for (int v = 0; v < n; ++v) problem.costs.back().push_back(random.between(0, most));
    // Everything by way of a rank that holds it: others need not reach each other.
    problem.costs.back()[static_cast<std::size_t>(random.between(0, n - 1))] = 1e6;
  }
  for (int rank = 0; rank < n; ++rank) {
    if (rank == 0 || random.one_in(4)) {
      problem.holders.push_back(rank);
    } else if (random.one_in(2)) {
      problem.wanted.push_back(rank);
    }
  }
  return problem;
}

void expect_tree(const Problem& problem, const Tree& tree) {
  std::vector<int> reached = problem.holders;
  double cost = 0;
  for (const auto& [from, to] : tree.arcs) {
    EXPECT_NE(std::find(reached.begin(), reached.end(), from), reached.end());
    EXPECT_EQ(std::find(reached.begin(), reached.end(), to), reached.end());
    reached.push_back(to);
    cost += problem.costs[static_cast<std::size_t>(from)][static_cast<std::size_t>(to)];
  }
  for (const int rank : problem.wanted) EXPECT_NE(std::find(reached.begin(), reached.end(), rank), reached.end());
  EXPECT_DOUBLE_EQ(tree.cost, cost);
}

TEST(CheapestTree, TwoWaysOfFindingItAgree) {
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const Problem problem = draw(random);
    if (problem.wanted.empty()) continue;
    const Tree a = cheapest_by_subsets_of_wanted(problem.costs, problem.holders, problem.wanted);
    const Tree b = cheapest_by_sets_of_relays(problem.costs, problem.holders, problem.wanted);
    expect_tree(problem, a);
    expect_tree(problem, b);
    ASSERT_DOUBLE_EQ(a.cost, b.cost);
  }
}

}  // namespace
}  // namespace reshard::optimum
