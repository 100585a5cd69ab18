// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Scales from the elements that they are for: the pass before copies that quantise with scales of their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/scale.h"

namespace reshard {

struct RowKernels;

/// The scales of all blocks of a strided box: dim d has divide_up(shape[d], block[d]) of them, the last one perhaps of
/// fewer elements. At most two dims have blocks of more than one element, with strides below 2 GiB; no block has more
/// than 32768. The scale of block b lies at scales + sum(b[d] * scale_strides_bytes[d]).
struct ScaleOp {
  static constexpr int kMaxDims = RESHARD_MAX_DIMS;
  const void* src = nullptr;
  void* scales = nullptr;          ///< aligned to the size of a scale
  DType src_dtype = DType::kBF16;  ///< BF16 or F32
  ScaleRule rule = ScaleRule::kF32;
  int num_dims = 0;
  std::int64_t shape[kMaxDims] = {};   ///< elements; a zero makes the op a no-op
  std::int64_t blocks[kMaxDims] = {};  ///< elements of a block, a power of two; a block begins at index 0
  std::int64_t src_strides_bytes[kMaxDims] = {};
  std::int64_t scale_strides_bytes[kMaxDims] = {};
};

/// A list of them, made once and run many times. Running allocates nothing, takes no lock and makes no system call.
/// For devices: TileTable::append(). Whoever copies with the scales runs the list before.
class ScaleList {
 public:
  ScaleList();  ///< for the best kernels of this processor
  /// With given inner kernels, which must outlive the list, as all that rows.h offers do.
  explicit ScaleList(const RowKernels& kernels) : kernels_(&kernels) {}

  /// @pre the scales overlap neither each other nor any source of the list
  void add(const ScaleOp& op);

  void run() const;

  /// Runs blocks from `*position` on until at least `budget_bytes` were read or all are done, and advances `*position`;
  /// true when all are done.
  struct Position {
    std::size_t op = 0;
    std::int64_t block = 0;  ///< scales already made within the op
  };
  bool run_some(Position* position, std::int64_t budget_bytes) const;

  bool empty() const { return ops_.empty(); }
  const std::vector<ScaleOp>& ops() const { return ops_; }
  std::int64_t num_bytes() const { return num_bytes_; }  ///< read by one run

 private:
  const RowKernels* kernels_;
  std::vector<ScaleOp> ops_;
  std::int64_t num_bytes_ = 0;
};

}  // namespace reshard
