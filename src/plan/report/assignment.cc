// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The method of shortest augmenting paths, known as the Hungarian method. Rows and columns have prices; the reduced
// cost of a pair is its cost less both. Rows are matched one by one: a free row looks for the cheapest chain of
// exchanges that ends at a free column, prices are moved so that this chain costs nothing, and the exchanges are made.
// Integers only, so that ties fall alike everywhere.
#include "src/plan/report/assignment.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace reshard {
namespace {

constexpr std::int32_t kNone = -1;

/// Invariant: cost - row_price - column_price >= 0 everywhere, and = 0 on every matched pair; once all rows are matched
/// this proves that the matching is the least.
class Matching {
 public:
  Matching(const std::vector<std::int64_t>& cost, std::size_t n)
      : cost_(cost),
        n_(n),
        row_price_(n),
        column_price_(n, std::numeric_limits<std::int64_t>::max()),
        column_of_(n, kNone),
        row_of_(n, kNone),
        distance_(n),
        previous_row_(n) {}

  std::vector<std::int32_t> run() {
    start();
    for (std::size_t row = 0; row < n_; ++row) {
      if (column_of_[row] == kNone) augment(row);
    }
    return column_of_;
  }

 private:
  const std::int64_t* costs_of(std::size_t row) const { return cost_.data() + row * n_; }

  /// Prices from the least of every column, then of every row; matches where they allow it at once.
  void start() {
    for (std::size_t row = 0; row < n_; ++row) {
      const std::int64_t* costs = costs_of(row);
      for (std::size_t j = 0; j < n_; ++j) column_price_[j] = std::min(column_price_[j], costs[j]);
    }
    for (std::size_t row = 0; row < n_; ++row) {
      const std::int64_t* costs = costs_of(row);
      std::int64_t least = std::numeric_limits<std::int64_t>::max();
      for (std::size_t j = 0; j < n_; ++j) least = std::min(least, costs[j] - column_price_[j]);
      row_price_[row] = least;
      for (std::size_t j = 0; j < n_; ++j) {
        if (row_of_[j] != kNone || costs[j] - column_price_[j] != least) continue;
        match(row, j);
        break;
      }
    }
  }

  void match(std::size_t row, std::size_t column) {
    column_of_[row] = static_cast<std::int32_t>(column);
    row_of_[column] = static_cast<std::int32_t>(row);
  }

  /// Matches a free row along a shortest path to a free column, by Dijkstra on the reduced costs, which are never
  /// negative. Columns are open until their distance is final, then closed; a closed one is matched, and the search
  /// goes on from its row. `reached` is the distance so far.
  void augment(std::size_t free_row) {
    open_.resize(n_);
    std::iota(open_.begin(), open_.end(), std::size_t{0});
    closed_.clear();
    std::fill(distance_.begin(), distance_.end(), std::numeric_limits<std::int64_t>::max());
    std::int64_t reached = 0;
    std::size_t row = free_row;
    for (;;) {
      const std::size_t nearest = relax(row, reached);
      const std::size_t column = open_[nearest];
      reached = distance_[column];
      if (row_of_[column] == kNone) {
        update_prices(free_row, reached);
        flip(column, free_row);
        return;
      }
      open_[nearest] = open_.back();
      open_.pop_back();
      closed_.push_back(column);
      row = static_cast<std::size_t>(row_of_[column]);
    }
  }

  /// Reaches out from a row; returns the place in open_ of the nearest column, a free one where there is a choice.
  std::size_t relax(std::size_t row, std::int64_t reached) {
    const std::int64_t* costs = costs_of(row);
    const std::int64_t offset = reached - row_price_[row];
    std::size_t nearest = 0;
    std::int64_t least = std::numeric_limits<std::int64_t>::max();
    for (std::size_t i = 0; i < open_.size(); ++i) {
      const std::size_t j = open_[i];
      const std::int64_t distance = offset + costs[j] - column_price_[j];
      if (distance < distance_[j]) {
        distance_[j] = distance;
        previous_row_[j] = row;
      }
      if (distance_[j] < least || (distance_[j] == least && row_of_[j] == kNone)) {
        least = distance_[j];
        nearest = i;
      }
    }
    return nearest;
  }

  /// Keeps the invariant when the path is known: its pairs come to cost 0, and matched pairs stay at 0, since a closed
  /// column gets cheaper by as much as its row gets dearer.
  void update_prices(std::size_t free_row, std::int64_t reached) {
    row_price_[free_row] += reached;
    for (const std::size_t j : closed_) {
      const std::int64_t slack = reached - distance_[j];
      column_price_[j] -= slack;
      row_price_[static_cast<std::size_t>(row_of_[j])] += slack;
    }
  }

  /// Makes the exchanges, from the free column back: each row on the path takes the column by which it was left, and
  /// gives its own to the row before.
  void flip(std::size_t column, std::size_t free_row) {
    for (;;) {
      const std::size_t row = previous_row_[column];
      const std::int32_t next = column_of_[row];
      match(row, column);
      if (row == free_row) return;
      column = static_cast<std::size_t>(next);
    }
  }

  const std::vector<std::int64_t>& cost_;
  std::size_t n_;
  std::vector<std::int64_t> row_price_, column_price_;
  std::vector<std::int32_t> column_of_, row_of_;
  std::vector<std::int64_t> distance_;
  std::vector<std::size_t> previous_row_;  // on the path to a column
  std::vector<std::size_t> open_, closed_;
};

}  // namespace

std::vector<std::int32_t> assign(const std::vector<std::int64_t>& cost, std::int32_t n) {
  return Matching(cost, static_cast<std::size_t>(n)).run();
}

}  // namespace reshard
