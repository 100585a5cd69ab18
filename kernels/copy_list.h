// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/normal_op.h"
#include "src/base/dtype.h"

namespace reshard {

struct RowKernels;

/// One strided n-D copy, conversion or fill. Element i of the box lies at base + sum(i[d] * stride[d]) on each side.
/// Packing, unpacking, local moves and zero-fill are the same operation with other strides.
struct CopyOp {
  static constexpr int kMaxDims = 8;
  const void* src = nullptr;  ///< null: fill the destination with zero bytes
  void* dst = nullptr;
  DType src_dtype = DType::kU8;
  DType dst_dtype = DType::kU8;
  int num_dims = 0;                   ///< 0 moves one element
  std::int64_t shape[kMaxDims] = {};  ///< elements; a zero makes the op a no-op
  std::int64_t src_strides_bytes[kMaxDims] = {};
  std::int64_t dst_strides_bytes[kMaxDims] = {};
};

/// How the stores of a run should treat the cache.
enum class StoreHint {
  kAuto,       ///< non-temporal when the list writes more than the cache holds, else cached
  kCached,     ///< the destination is read again soon, e.g. a staging window
  kStreaming,  ///< the destination is not read again soon, e.g. an installed weight
};

/// A list of copies, normalised once (dims of extent 1 dropped, contiguous dims merged, dims ordered for locality) and
/// run many times. Running allocates nothing, takes no lock and makes no system call.
class CopyList {
 public:
  CopyList();
  /// With given inner kernels; for tests, which run all of them.
  explicit CopyList(const RowKernels& kernels) : kernels_(&kernels) {}

  /// @pre is_convertible(op.src_dtype, op.dst_dtype); source and destination of all ops do not overlap.
  /// Negative and zero source strides are allowed; a destination must not alias itself.
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

  bool empty() const { return ops_.empty(); }
  std::size_t num_ops() const { return ops_.size(); }
  std::int64_t num_bytes() const { return num_bytes_; }  ///< written by one run

 private:
  const RowKernels* kernels_;
  std::vector<NormalOp> ops_;
  std::int64_t num_bytes_ = 0;
};

/// Scalar conversions with IEEE round-to-nearest-even; NaN stays NaN (quiet), overflow becomes infinity.
std::uint16_t bf16_from_f32(float value);
std::uint16_t f16_from_f32(float value);
float f32_from_bf16(std::uint16_t bits);
float f32_from_f16(std::uint16_t bits);

/// Bytes of the last-level cache share that copies may assume to find warm; the bound for StoreHint::kAuto.
std::int64_t streaming_threshold_bytes();

}  // namespace reshard
