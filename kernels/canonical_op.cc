// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Three rewritings that keep the set of (source byte, destination byte) pairs: drop and turn dims, sort them, merge
// them. The result is the same for all ways to write a copy down with dims of its own strides, which is what sharing
// shapes needs; and it has the longest contiguous runs that there are, which is what the kernels need.
#include "kernels/canonical_op.h"

#include <algorithm>

namespace reshard {
namespace {

// Drops dims of extent 1, and walks a dim whose destination descends from its other end.
void take_dims(const CopyOp& op, CanonicalOp* out) {
  for (int d = 0; d < op.num_dims; ++d) {
    CopyDim dim{op.shape[d], op.src_strides_bytes[d], op.dst_strides_bytes[d]};
    if (dim.extent == 1) continue;
    if (dim.dst_stride < 0) {
      // From the other end the same elements are visited in the opposite order, which is the same copy: no destination
      // element is written twice.
      if (out->src != nullptr) out->src += (dim.extent - 1) * dim.src_stride;
      out->dst += (dim.extent - 1) * dim.dst_stride;
      dim = {dim.extent, -dim.src_stride, -dim.dst_stride};
    }
    if (out->src == nullptr) dim.src_stride = dim.dst_stride;  // then only the destination decides what merges
    out->dims[out->num_dims++] = dim;
  }
}

// Insertion: there are at most 8, and GCC's std::sort warns about the branch for more. Dims with the same stride keep
// their order, so that the result depends on nothing but the op.
void sort_dims(CanonicalOp* op) {
  CopyDim* const begin = op->dims;
  CopyDim* const end = op->dims + op->num_dims;
  const auto is_finer = [](const CopyDim& a, const CopyDim& b) { return a.dst_stride < b.dst_stride; };
  for (CopyDim* dim = begin; dim != end; ++dim) std::rotate(std::upper_bound(begin, dim, *dim, is_finer), dim, dim + 1);
}

// A dim that goes on where the one before it ends, on both sides, is more of the same dim.
void merge_dims(CanonicalOp* op) {
  int last = 0;  // of those that are kept
  for (int d = 1; d < op->num_dims; ++d) {
    CopyDim& inner = op->dims[last];
    const CopyDim& outer = op->dims[d];
    if (outer.dst_stride == inner.dst_stride * inner.extent && outer.src_stride == inner.src_stride * inner.extent) {
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

CanonicalOp canonical(const CopyOp& op) {
  CanonicalOp out;
  out.src = static_cast<const std::byte*>(op.src);
  out.dst = static_cast<std::byte*>(op.dst);
  out.src_dtype = op.src_dtype;
  out.dst_dtype = op.dst_dtype;
  take_dims(op, &out);
  sort_dims(&out);
  merge_dims(&out);
  return out;
}

}  // namespace reshard
