// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Three rewritings that keep the set of (source byte, destination byte) pairs: drop and turn dims, sort them, merge
// them. The result is the same for all ways to write a copy down with dims of its own strides, which is what sharing
// shapes needs; and it has the longest contiguous runs that there are, which is what the kernels need.
#include "kernels/canonical_op.h"

#include <algorithm>
#include <bit>

namespace reshard {
namespace {

// What a dim of a copy says of scales, in the one way to write it down: {} where all indices have the same.
ScaleDim scale_dim(const CopyOp& op, int d) {
  const ScaleDim& scale = op.scales.dims[d];
  const bool is_one = op.scales.base == nullptr || scale.stride_bytes == 0 || scale.offset + op.shape[d] <= scale.block;
  return is_one ? ScaleDim{} : scale;
}

// The dim walked from its other end: index i is what was index extent - 1 - i, and so are the scales.
ScaledDim reversed(const ScaledDim& dim, CanonicalOp* out) {
  if (out->src != nullptr) out->src += (dim.extent - 1) * dim.src_stride;
  out->dst += (dim.extent - 1) * dim.dst_stride;
  ScaleDim scale = dim.scale;
  if (scale.stride_bytes != 0) {
    const std::int64_t last = scale.offset + dim.extent - 1;  // counted from the first block's begin
    out->scales += last / scale.block * scale.stride_bytes;
    scale = {scale.block, scale.block - 1 - last % scale.block, -scale.stride_bytes};
  }
  return {{dim.extent, -dim.src_stride, -dim.dst_stride}, scale};
}

// Drops dims of extent 1, and walks a dim whose destination descends from its other end.
void take_dims(const CopyOp& op, CanonicalOp* out) {
  for (int d = 0; d < op.num_dims; ++d) {
    ScaledDim dim{{op.shape[d], op.src_strides_bytes[d], op.dst_strides_bytes[d]}, scale_dim(op, d)};
    if (dim.extent == 1) continue;
    if (dim.dst_stride < 0) {
      // From the other end the same elements are visited in the opposite order, which is the same copy: no destination
      // element is written twice.
      dim = reversed(dim, out);
    }
    if (out->src == nullptr) dim.src_stride = dim.dst_stride;  // then only the destination decides what merges
    out->dims[out->num_dims++] = dim;
  }
}

// Insertion: there are at most 8, and GCC's std::sort warns about the branch for more. Dims with the same stride keep
// their order, so that the result depends on nothing but the op.
void sort_dims(CanonicalOp* op) {
  ScaledDim* const begin = op->dims;
  ScaledDim* const end = op->dims + op->num_dims;
  const auto is_finer = [](const ScaledDim& a, const ScaledDim& b) { return a.dst_stride < b.dst_stride; };
  for (ScaledDim* dim = begin; dim != end; ++dim)
    std::rotate(std::upper_bound(begin, dim, *dim, is_finer), dim, dim + 1);
}

// Whether the scales of two dims are those of one dim, as are all scales of a tensor that has one, and those of rows
// that are cut into whole blocks. The merged dim has the inner one's.
bool can_merge_scales(const ScaledDim& inner, const ScaledDim& outer) {
  const ScaleDim& scale = inner.scale;
  if (scale.stride_bytes == 0) return outer.scale.stride_bytes == 0;
  return scale.offset == 0 && inner.extent % scale.block == 0 && outer.scale.block == 1 &&
         outer.scale.stride_bytes == inner.extent / scale.block * scale.stride_bytes;
}

// A dim that goes on where the one before it ends, on both sides, is more of the same dim.
void merge_dims(CanonicalOp* op) {
  int last = 0;  // of those that are kept
  for (int d = 1; d < op->num_dims; ++d) {
    ScaledDim& inner = op->dims[last];
    const ScaledDim& outer = op->dims[d];
    const bool goes_on =
        outer.dst_stride == inner.dst_stride * inner.extent && outer.src_stride == inner.src_stride * inner.extent;
    if (goes_on && can_merge_scales(inner, outer)) {
      inner.extent *= outer.extent;
    } else {
      op->dims[++last] = outer;
    }
  }
  if (op->num_dims > 0) op->num_dims = last + 1;
}

}  // namespace

std::int64_t num_bytes_of(const CopyOp& op) {
  std::int64_t num_bytes = size_bytes(op.dst_dtype);
  for (int d = 0; d < op.num_dims; ++d) num_bytes *= op.shape[d];
  return num_bytes;
}

bool is_possible(const CopyOp& op) {
  if (op.scales.base == nullptr) return is_convertible(op.src_dtype, op.dst_dtype);
  const bool has_offsets_in_blocks = std::all_of(op.scales.dims, op.scales.dims + op.num_dims, [](const ScaleDim& dim) {
    const bool is_power = std::has_single_bit(static_cast<std::uint64_t>(dim.block));
    return dim.stride_bytes == 0 || (is_power && dim.offset >= 0 && dim.offset < dim.block);
  });
  const bool has_scale_type = op.scales.dtype == DType::kF32 || op.scales.dtype == DType::kF8E8M0;
  return op.src != nullptr && is_scalable(op.src_dtype, op.dst_dtype) && has_scale_type && has_offsets_in_blocks;
}

CanonicalOp canonical(const CopyOp& op) {
  CanonicalOp out;
  out.src = static_cast<const std::byte*>(op.src);
  out.dst = static_cast<std::byte*>(op.dst);
  out.src_dtype = op.src_dtype;
  out.dst_dtype = op.dst_dtype;
  out.scales = static_cast<const std::byte*>(op.scales.base);
  out.scale_dtype = op.scales.dtype;
  take_dims(op, &out);
  sort_dims(&out);
  merge_dims(&out);
  return out;
}

}  // namespace reshard
