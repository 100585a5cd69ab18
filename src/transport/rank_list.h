// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <vector>

namespace reshard {

/// "rank 3", "ranks 1, 2, 5", and from many only the first: for messages that name who is missing.
inline std::string list_ranks(std::vector<std::int32_t> ranks) {
  // A message about thousands of ranks must still fit on a screen, and the first ones show the pattern.
  constexpr std::size_t kMostNamed = 16;
  const std::size_t num_ranks = ranks.size();
  ranks.resize(std::min(num_ranks, kMostNamed));
  std::string text = fmt::format("rank{} {}", num_ranks == 1 ? "" : "s", fmt::join(ranks, ", "));
  if (num_ranks > kMostNamed) text += fmt::format(" and {} more", num_ranks - kMostNamed);
  return text;
}

}  // namespace reshard
