// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "perf/data/arena.h"
#include "perf/data/element_source.h"
#include "perf/engine/job.h"

namespace reshard::perf {

/// One rank's side of a job, with the values that belong there.
struct RankData {
  reshard_layout_t layout = nullptr;
  std::int32_t rank = 0;
  const ElementSource* values = nullptr;
};

/// Writes every source block of the rank.
void fill_source(const RankData& data, const std::vector<TensorPair>& tensors, const Arena& arena);

/// Elements that were compared and that differ, of one tensor.
struct CheckCount {
  std::int64_t num_elements = 0;
  std::int64_t num_wrong = 0;
};

/// Compares every destination block of the rank, padding included, in the order of `tensors`. The arena must have been
/// poisoned before the run: padding that is declared untouched has to hold the poison still, and so has a tensor that
/// was skipped.
std::vector<CheckCount> check_destination(const RankData& data, const std::vector<TensorPair>& tensors,
                                          const Arena& arena);

}  // namespace reshard::perf
