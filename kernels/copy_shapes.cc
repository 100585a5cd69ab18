// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Everything about a copy but its addresses is kept once. The keys hold what the hash was made of, because equal hashes
// prove nothing: a shape that is taken for another would copy the wrong bytes.
#include "kernels/copy_shapes.h"

#include <algorithm>

#include "kernels/rows.h"

namespace reshard {
namespace {

std::uint64_t hash_of(const CanonicalOp& op) {
  std::uint64_t hash = mix_hash(static_cast<std::uint64_t>(op.src_dtype), static_cast<std::int64_t>(op.dst_dtype));
  hash = mix_hash(hash, op.src == nullptr ? 1 : 2);
  for (int d = 0; d < op.num_dims; ++d) {
    hash = mix_hash(mix_hash(mix_hash(hash, op.dims[d].extent), op.dims[d].src_stride), op.dims[d].dst_stride);
  }
  if (!op.is_scaled()) return hash;
  hash = mix_hash(hash, static_cast<std::int64_t>(op.scale_dtype));
  for (int d = 0; d < op.num_dims; ++d) {
    const ScaleDim& scale = op.dims[d].scale;
    hash = mix_hash(mix_hash(mix_hash(hash, scale.block), scale.offset), scale.stride_bytes);
  }
  return hash;
}

}  // namespace

CopyShapes::CopyShapes() : CopyShapes(best_row_kernels()) {}

bool CopyShapes::is_equal(const Key& key, const CanonicalOp& op) const {
  return key.num_dims == op.num_dims && key.src_dtype == op.src_dtype && key.dst_dtype == op.dst_dtype &&
         key.is_fill == (op.src == nullptr) && key.is_scaled == op.is_scaled() &&
         (!key.is_scaled || key.scale_dtype == op.scale_dtype) &&
         std::equal(op.dims, op.dims + op.num_dims, key_dims_.begin() + static_cast<std::ptrdiff_t>(key.first_dim));
}

std::uint32_t CopyShapes::index_of(const CanonicalOp& op) {
  const std::uint64_t hash = hash_of(op);
  const auto [begin, end] = index_of_hash_.equal_range(hash);
  for (auto known = begin; known != end; ++known) {
    if (is_equal(keys_[known->second], op)) return known->second;
  }
  const auto index = static_cast<std::uint32_t>(shapes_.size());
  keys_.push_back(
      {key_dims_.size(), op.num_dims, op.src_dtype, op.dst_dtype, op.scale_dtype, op.src == nullptr, op.is_scaled()});
  key_dims_.insert(key_dims_.end(), op.dims, op.dims + op.num_dims);
  shapes_.push_back(normalize(op, kernels_));
  index_of_hash_.emplace(hash, index);
  return index;
}

}  // namespace reshard
