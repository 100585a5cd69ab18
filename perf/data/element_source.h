// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>

#include "perf/engine/job.h"

namespace reshard::perf {

/// Where the values of the tensors come from: what a source holds and, in its own dtype, what a destination must hold.
class ElementSource {
 public:
  virtual ~ElementSource() = default;

  /// Writes elements [first, first + count) of the tensor, in global row-major order, to `out` in `dtype`, which is
  /// the pair's src_dtype or its dst_dtype.
  virtual void read(const TensorPair& tensor, std::int64_t first, std::int64_t count, reshard_dtype_t dtype,
                    std::byte* out) const = 0;
};

}  // namespace reshard::perf
