// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The one operation that packs, unpacks, moves locally, converts and fills: lists of strided copies. The work is in
// three steps, and only the last one is done for every run: an op is brought into its one form (canonical_op.h), cut
// into pieces with kernels chosen for them (normal_op.h), and run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/copy_table.h"

namespace reshard {

struct RowKernels;

/// How the stores of a run should treat the cache.
enum class StoreHint {
  kAuto,       ///< non-temporal when the list writes more than the cache holds, else cached
  kCached,     ///< the destination is read again soon, e.g. a staging window
  kStreaming,  ///< the destination is not read again soon, e.g. an installed weight
};

/// A list of copies, made ready once and run many times. What is copied stands in a table, which the lists of a program
/// share (CopyListBuilder); a list that is made with add() has one of its own. Running allocates nothing, takes no lock
/// and makes no system call.
class CopyList {
 public:
  CopyList() = default;
  /// With given inner kernels; for tests, which run all of them.
  explicit CopyList(const RowKernels& kernels) : table_(std::make_shared<CopyTable>(kernels)) {}
  /// A list of a shared table, which has it at `place`.
  CopyList(std::shared_ptr<CopyTable> table, const CopyTable::Place& place) : table_(std::move(table)), place_(place) {}

  /// Not for lists of a shared table, whose other lists may be repeats of the same pattern.
  /// @pre is_convertible(op.src_dtype, op.dst_dtype), or with scales is_scalable(); source and destination of all ops
  /// do not overlap. Negative and zero source strides are allowed; a destination must not alias itself.
  void add(const CopyOp& op);

  /// Runs all copies, in order.
  void run(StoreHint hint = StoreHint::kAuto) const;

  /// Runs copies from `*position` on until at least `budget_bytes` were written or all are done, and advances
  /// `*position`; true when all are done. Large copies are split, so that a caller can make progress in between.
  struct Position {
    std::size_t op = 0;
    std::int64_t row = 0;  ///< pieces already done within the op
  };
  bool run_some(Position* position, std::int64_t budget_bytes, StoreHint hint = StoreHint::kAuto) const;

  /// Moves every source, or every destination, by so many bytes: for copies that were added before the address of a
  /// window was known. Fills have no source to move; scales stay where they are.
  void shift_src(std::intptr_t num_bytes) { src_shift_bytes_ += num_bytes; }
  void shift_dst(std::intptr_t num_bytes) { dst_shift_bytes_ += num_bytes; }

  bool empty() const { return num_ops() == 0; }
  std::size_t num_ops() const { return has_copies() ? table_->num_copies(place_) : 0; }
  std::int64_t num_bytes() const { return has_copies() ? table_->num_bytes(place_) : 0; }  ///< written by one run

  PlacedCopy op(std::size_t index) const;
  /// Copy `index` with its dims, types and addresses, for a device that runs it in its own way.
  CanonicalOp canonical_op(std::size_t index) const {
    const PlacedCopy copy = op(index);
    return table_->shapes().canonical(copy.shape, copy.src, copy.dst, copy.scales);
  }
  const NormalOp& shape_of(const PlacedCopy& op) const { return table_->shapes()[op.shape]; }

 private:
  bool has_copies() const { return table_ != nullptr && table_->num_patterns() > 0; }

  std::shared_ptr<CopyTable> table_;
  CopyTable::Place place_;
  std::intptr_t src_shift_bytes_ = 0;
  std::intptr_t dst_shift_bytes_ = 0;
};

/// Scalar conversions with IEEE round-to-nearest-even; NaN stays NaN (quiet), overflow becomes infinity.
std::uint16_t bf16_from_f32(float value);
std::uint16_t f16_from_f32(float value);
float f32_from_bf16(std::uint16_t bits);
float f32_from_f16(std::uint16_t bits);

/// Bytes of the last-level cache share that copies may assume to find warm; the bound for StoreHint::kAuto.
std::int64_t streaming_threshold_bytes();

}  // namespace reshard
