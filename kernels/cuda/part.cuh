// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a team of threads moves: a rectangle of a box, and how to find its rows. Nothing here divides per element:
// a division by an extent is one multiplication and a shift.
#ifndef RESHARD_KERNELS_CUDA_PART_CUH
#define RESHARD_KERNELS_CUDA_PART_CUH

#include <cstdint>

#include "kernels/cuda/ptx.cuh"
#include "kernels/tile.h"

namespace reshard::cuda {

/// The threads that move a part together: a block, or one of its warps.
struct Team {
  std::uint32_t index;  ///< of this thread
  std::uint32_t size;
};

/// n / divisor for n * divisor < 2^32.
class Divisor {
 public:
  __device__ __forceinline__ explicit Divisor(std::uint32_t divisor)
      : divisor_(divisor), factor_(divisor == 1 ? 0 : 0xffffffffU / divisor + 1), times_(divisor == 1 ? 1 : 0) {}
  /// One by which everything is zero, e.g. because it is larger than every n.
  __device__ __forceinline__ static Divisor infinite() { return {0, 0, 0}; }

  __device__ __forceinline__ std::uint32_t quotient(std::uint32_t n) const {
    return multiply_high(n, factor_) + n * times_;
  }
  __device__ __forceinline__ std::uint32_t rest(std::uint32_t n, std::uint32_t quotient) const {
    return n - quotient * divisor_;
  }

 private:
  __device__ __forceinline__ Divisor(std::uint32_t divisor, std::uint32_t factor, std::uint32_t times)
      : divisor_(divisor), factor_(factor), times_(times) {}

  std::uint32_t divisor_;
  std::uint32_t factor_;  // 2^32 / divisor, rounded up; what that is too large comes to less than 1 of the quotient
  std::uint32_t times_;   // for a divisor of 1, whose factor has 33 bits
};

/// Two addresses, the same place on both sides.
struct Place {
  std::uint64_t src;
  std::uint64_t dst;
};

/// `num_rows` rows of a box, of `num_cols` columns each.
class Part {
 public:
  __device__ __forceinline__ Part(const CopyBox& box, std::uint32_t first_row, std::uint32_t num_rows,
                                  std::uint32_t first_col, std::uint32_t num_cols)
      : num_rows_(num_rows),
        num_cols_(num_cols),
        src_row_stride_(box.src_row_stride),
        dst_row_stride_(box.dst_row_stride),
        src_plane_step_(static_cast<std::uint64_t>(box.src_plane_stride) - at(box.extents[1], box.src_row_stride)),
        dst_plane_step_(static_cast<std::uint64_t>(box.dst_plane_stride) - at(box.extents[1], box.dst_row_stride)),
        rows_per_plane_(Divisor::infinite()) {
    const std::uint32_t plane = first_row / box.extents[1];
    const std::uint32_t row = first_row - plane * box.extents[1];
    // In one plane, rows are counted from the first one on; else they are whole planes.
    if (row + num_rows > box.extents[1]) rows_per_plane_ = Divisor(box.extents[1]);
    first_ = {box.src + at(plane, box.src_plane_stride) + at(row, src_row_stride_) + at(first_col, box.src_col_stride),
              box.dst + at(plane, box.dst_plane_stride) + at(row, dst_row_stride_) + at(first_col, box.dst_col_stride)};
  }

  __device__ __forceinline__ std::uint32_t num_rows() const { return num_rows_; }
  __device__ __forceinline__ std::uint32_t num_cols() const { return num_cols_; }

  /// The plane of a row, counted from that of the first.
  __device__ __forceinline__ std::uint32_t plane(std::uint32_t index) const { return rows_per_plane_.quotient(index); }

  /// The first column of a row.
  __device__ __forceinline__ Place row(std::uint32_t index) const {
    const std::uint32_t plane = this->plane(index);
    return {first_.src + at(index, src_row_stride_) + at(plane, src_plane_step_),
            first_.dst + at(index, dst_row_stride_) + at(plane, dst_plane_step_)};
  }

  /// A number that has a bit set below any power of two that the addresses of all rows are not multiples of.
  __device__ __forceinline__ std::uint32_t src_bits() const {
    return static_cast<std::uint32_t>(first_.src | src_plane_step_) | static_cast<std::uint32_t>(src_row_stride_);
  }
  __device__ __forceinline__ std::uint32_t dst_bits() const {
    return static_cast<std::uint32_t>(first_.dst | dst_plane_step_) | static_cast<std::uint32_t>(dst_row_stride_);
  }

  /// index * stride, to be added to an address.
  __device__ __forceinline__ static std::uint64_t at(std::uint32_t index, std::int64_t stride) {
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(index) * stride);
  }
  __device__ __forceinline__ static std::uint64_t at(std::uint32_t index, std::uint64_t stride) {
    return index * stride;
  }
  __device__ __forceinline__ static std::uint64_t at(std::uint32_t index, std::int32_t stride) {
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int32_t>(index)) * stride);
  }

 private:
  Place first_;
  std::uint32_t num_rows_;
  std::uint32_t num_cols_;
  std::int32_t src_row_stride_;
  std::int32_t dst_row_stride_;
  std::uint64_t
      src_plane_step_;  // what the first row of a plane is further than the row before it, beyond the row stride
  std::uint64_t dst_plane_step_;
  Divisor rows_per_plane_;
};

}  // namespace reshard::cuda

#endif
