// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// One block after another: its largest magnitude, then its scale. Blocks are small boxes, read along the dim in which
// the source is contiguous, if there is one. Limited by memory.
#include "kernels/scale_list.h"

#include <algorithm>
#include <cassert>
#include <limits>

#include "kernels/ieee_mode.h"
#include "kernels/rows.h"
#include "kernels/scale_bits.h"

namespace reshard {
namespace {

std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

std::int64_t num_blocks_of(const ScaleOp& op) {
  std::int64_t count = 1;
  for (int d = 0; d < op.num_dims; ++d) count *= divide_up(op.shape[d], op.blocks[d]);
  return count;
}

/// The blocks of one op, the last dim fastest.
class Blocks {
 public:
  Blocks(const ScaleOp& op, const RowKernels& kernels)
      : op_(op), max_magnitude_(kernels.max_magnitude[float_index(op.src_dtype)]) {
    const std::int64_t element_bytes = size_bytes(op.src_dtype);
    for (int d = 0; d < op.num_dims; ++d) {
      if (op.src_strides_bytes[d] == element_bytes && (run_dim_ < 0 || op.blocks[d] > op.blocks[run_dim_]))
        run_dim_ = d;
    }
  }

  /// Makes the scale of a block and returns how many bytes of the source it took.
  std::int64_t make(std::int64_t block) const {
    const auto* src = static_cast<const std::byte*>(op_.src);
    auto* scale = static_cast<std::byte*>(op_.scales);
    std::int64_t extents[ScaleOp::kMaxDims];
    std::int64_t num_elements = 1;
    for (int d = op_.num_dims - 1; d >= 0; --d) {
      const std::int64_t count = divide_up(op_.shape[d], op_.blocks[d]);
      const std::int64_t index = block % count;
      block /= count;
      src += index * op_.blocks[d] * op_.src_strides_bytes[d];
      scale += index * op_.scale_strides_bytes[d];
      extents[d] = std::min(op_.blocks[d], op_.shape[d] - index * op_.blocks[d]);
      num_elements *= extents[d];
    }
    store(max_magnitude(src, extents, 0), scale);
    return num_elements * size_bytes(op_.src_dtype);
  }

 private:
  /// Of the dims from `d` on.
  std::uint32_t max_magnitude(const std::byte* src, const std::int64_t* extents, int d) const {
    // The second is never so, but a compiler that unrolls this warns of what would come after it.
    if (d == op_.num_dims || d == ScaleOp::kMaxDims) return max_magnitude_(src, run_dim_ < 0 ? 1 : extents[run_dim_]);
    if (d == run_dim_) return max_magnitude(src, extents, d + 1);
    std::uint32_t most = 0;
    for (std::int64_t i = 0; i < extents[d]; ++i) {
      most = std::max(most, max_magnitude(src + i * op_.src_strides_bytes[d], extents, d + 1));
    }
    return most;
  }

  void store(std::uint32_t amax_bits, std::byte* scale) const {
    if (op_.rule == ScaleRule::kF32) {
      *reinterpret_cast<float*>(scale) = scale_bits::scale_f32(amax_bits);
    } else {
      *scale = static_cast<std::byte>(scale_bits::scale_e8m0(amax_bits, op_.rule == ScaleRule::kE8M0Up));
    }
  }

  const ScaleOp& op_;
  MagnitudeFn max_magnitude_;
  int run_dim_ = -1;  // in which the source is contiguous
};

}  // namespace

ScaleList::ScaleList() : ScaleList(best_row_kernels()) {}

void ScaleList::add(const ScaleOp& op) {
  assert(op.src_dtype == DType::kBF16 || op.src_dtype == DType::kF32);
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

bool ScaleList::run_some(Position* position, std::int64_t budget_bytes) const {
  const IeeeMode mode;
  while (position->op < ops_.size() && budget_bytes > 0) {
    const ScaleOp& op = ops_[position->op];
    const Blocks blocks(op, *kernels_);
    const std::int64_t count = num_blocks_of(op);
    for (; position->block < count && budget_bytes > 0; ++position->block) budget_bytes -= blocks.make(position->block);
    if (position->block == count) *position = {position->op + 1, 0};
  }
  return position->op == ops_.size();
}

}  // namespace reshard
