// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/collective.h"

#include <algorithm>

#include "perf/engine/error.h"

namespace reshard::perf {
namespace {

/// Combines the values of all ranks, element by element, into those of rank 0.
/// An all-gather, and the same arithmetic on every rank in rank order, so that all get the same bits.
template <typename T, typename F>
std::vector<T> combine(const Ranks& ranks, const std::vector<T>& values, F&& into) {
  std::vector<T> all(values.size() * static_cast<std::size_t>(ranks.num_ranks));
  const std::size_t size_bytes = values.size() * sizeof(T);
  check(reshard_comm_allgather(ranks.comm, values.data(), all.data(), size_bytes, ranks.timeout_us), "gathering");
  std::vector<T> result(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(values.size()));
  for (std::size_t i = values.size(); i < all.size(); ++i) into(result[i % values.size()], all[i]);
  return result;
}

}  // namespace

Ranks make_ranks(reshard_comm_t comm, std::int64_t timeout_us) {
  Ranks ranks{comm, 0, 0, timeout_us};
  check(reshard_comm_rank(comm, &ranks.rank), "reading the rank");
  check(reshard_comm_size(comm, &ranks.num_ranks), "reading the rank count");
  return ranks;
}

void barrier(const Ranks& ranks) {
  // Nobody has all values before all have given theirs.
  sum_over_ranks(ranks, {0});
}

std::vector<double> max_over_ranks(const Ranks& ranks, const std::vector<double>& values) {
  return combine(ranks, values, [](double& into, double value) { into = std::max(into, value); });
}

std::vector<std::int64_t> sum_over_ranks(const Ranks& ranks, const std::vector<std::int64_t>& values) {
  return combine(ranks, values, [](std::int64_t& into, std::int64_t value) { into += value; });
}

}  // namespace reshard::perf
