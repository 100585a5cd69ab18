// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace reshard {

/// Parallel edges of a bipartite multigraph.
struct Edge {
  std::int32_t entry = 0;
  std::int32_t multiplicity = 0;
  std::array<std::int32_t, 2> ends{};  ///< row, column
};

/// Divides edges into two sides such that every row and every column has as many on one side as on the other, or one
/// more. Linear in the edges, and in memory that is kept from call to call: a colouring calls it for each of a thousand
/// subgraphs.
class EulerSplit {
 public:
  EulerSplit(std::int32_t num_rows, std::int32_t num_columns);

  /// Per item of `chosen`, which are indices of edges, 0 or 1. Valid until the next call.
  const std::vector<std::int16_t>& sides(const std::vector<Edge>& edges, const std::vector<std::int32_t>& chosen);

 private:
  /// Indices of chosen edges, or -1.
  struct End {
    std::vector<std::int32_t> unpaired;  ///< per line: waits for a partner
    std::vector<std::int32_t> partner;   ///< per chosen edge
  };

  void pair_up(const std::vector<Edge>& edges, const std::vector<std::int32_t>& chosen);
  void paint();
  void walk(std::int32_t from, std::size_t end);

  std::array<End, 2> ends_;
  std::vector<std::int16_t> side_;
  std::int16_t next_side_ = 0;
};

}  // namespace reshard
