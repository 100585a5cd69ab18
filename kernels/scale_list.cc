// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "kernels/scale_list.h"

#include <limits>

namespace reshard {

void ScaleList::add(const ScaleOp& op) {
  std::int64_t num_bytes = size_bytes(op.src_dtype);
  for (int d = 0; d < op.num_dims; ++d) num_bytes *= op.shape[d];
  if (num_bytes == 0) return;
  ops_.push_back(op);
  num_bytes_ += num_bytes;
}

void ScaleList::run() const {
  Position position;
  run_some(&position, std::numeric_limits<std::int64_t>::max());
}

// Not made yet: this header is what others write against.
bool ScaleList::run_some(Position* position, std::int64_t /*budget_bytes*/) const {
  position->op = ops_.size();
  return true;
}

}  // namespace reshard
