// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "src/layout/layout.h"

namespace reshard::testing {

/// Decisions drawn from a list of numbers, zeros after its end: a shorter or smaller list is a simpler scenario, so
/// that shrinking the list shrinks the failing case.
class Choices {
 public:
  explicit Choices(const std::vector<std::uint32_t>& numbers) : numbers_(numbers) {}
  /// One of 0 .. count - 1.
  std::int64_t pick(std::int64_t count) {
    return next_ < numbers_.size() ? static_cast<std::int64_t>(numbers_[next_++]) % count : 0;
  }

 private:
  const std::vector<std::uint32_t>& numbers_;
  std::size_t next_ = 0;
};

/// Two random layouts of the same tensors over one world; the source holds everything.
struct Scenario {
  std::shared_ptr<const ModelLayout> src;
  std::shared_ptr<const ModelLayout> dst;
};

/// Small random meshes (any ranks, overlapping sides), all rules, nesting, replication, repetition and omission at the
/// destination, padding, memory orders, explicit and flat blocks, casts, groups in any order.
Scenario make_scenario(Choices* choices, std::int32_t num_ranks);

/// The row-major index of a tensor's element.
std::int64_t flat_index(const std::vector<std::int64_t>& shape, const Dims& index);

/// Calls visit(global index, byte offset in the buffer) for every element of a block.
template <typename Visit>
void for_each_element(const Block& block, const Visit& visit) {
  const std::int64_t count = block.box.num_elements();
  for (std::int64_t i = 0; i < count; ++i) {
    Dims index;
    std::int64_t rest = i;
    std::int64_t offset = block.offset_bytes;
    for (int d = block.box.num_dims - 1; d >= 0; --d) {
      const std::int64_t step = rest % block.box.extent(d);
      rest /= block.box.extent(d);
      index[d] = block.box.begin[d] + step;
      offset += step * block.strides_bytes[d];
    }
    visit(index, offset);
  }
}

}  // namespace reshard::testing
