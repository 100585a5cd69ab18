// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Copies are made by the million and are alike up to their addresses, and making one ready takes far longer than
// storing two addresses. So what does not depend on addresses is kept once for each shape.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "kernels/canonical_op.h"
#include "kernels/normal_op.h"

namespace reshard {

struct RowKernels;

/// One more value into a hash, as the finaliser of SplitMix64 mixes. Which hash it is has no influence on any result.
inline std::uint64_t mix_hash(std::uint64_t hash, std::int64_t value) {
  hash = (hash ^ static_cast<std::uint64_t>(value)) * 0xbf58476d1ce4e5b9U;
  return hash ^ (hash >> 29U);
}

/// What copies have in common when only their addresses differ, each once.
class CopyShapes {
 public:
  CopyShapes();  ///< for the best kernels of this processor
  /// The kernels must outlive this object, as all that rows.h offers do.
  explicit CopyShapes(const RowKernels& kernels) : kernels_(kernels) {}

  /// The index of the shape of `op`, which is entered if it is new.
  std::uint32_t index_of(const CanonicalOp& op);

  /// Entering shapes moves them: the reference holds until then.
  const NormalOp& operator[](std::uint32_t index) const { return shapes_[index]; }
  std::size_t size() const { return shapes_.size(); }

  /// What the shape was made of, for those that do not run it on the host, applied to these addresses.
  CanonicalOp canonical(std::uint32_t index, const std::byte* src, std::byte* dst, const std::byte* scales) const {
    const Key& key = keys_[index];
    CanonicalOp op{src, dst, key.src_dtype, key.dst_dtype, key.scale_dtype, scales, key.num_dims, {}};
    std::copy_n(key_dims_.begin() + static_cast<std::ptrdiff_t>(key.first_dim), key.num_dims, op.dims);
    return op;
  }
  const RowKernels& kernels() const { return kernels_; }

 private:
  /// What tells shapes apart, beside the dims at keys_dims_[first_dim ...].
  struct Key {
    std::size_t first_dim = 0;
    int num_dims = 0;
    DType src_dtype = DType::kU8;
    DType dst_dtype = DType::kU8;
    DType scale_dtype = DType::kF32;
    bool is_fill = false;
    bool is_scaled = false;
  };
  bool is_equal(const Key& key, const CanonicalOp& op) const;

  const RowKernels& kernels_;
  std::vector<NormalOp> shapes_;
  std::vector<Key> keys_;            // by shape
  std::vector<ScaledDim> key_dims_;  // of all keys, one after another
  std::unordered_multimap<std::uint64_t, std::uint32_t> index_of_hash_;
};

}  // namespace reshard
