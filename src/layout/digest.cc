// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// One number for all that a layout says. Ranks compare it before they trust each other's plans, and a saved plan names
// the two that it was made for. It must depend on contents alone, never on addresses or on what is shared, and every
// field that changes where a byte lies must go into it.
#include "src/base/hasher.h"
#include "src/layout/layout.h"

namespace reshard {
namespace {

void add(const Dims& dims, Hasher* hasher) {
  for (const std::int64_t value : dims.values) hasher->add(value);
}

std::uint64_t hash_of(const Mesh& mesh) {
  Hasher hasher;
  for (const MeshAxis& axis : mesh.axes()) {
    hasher.add(axis.name);
    hasher.add(axis.size);
  }
  hasher.add_all(mesh.ranks());
  return hasher.digest();
}

std::uint64_t hash_of(const DimMap& map) {
  Hasher hasher;
  hasher.add(map.owns_padding ? 1 : 0);
  for (const DimPart& part : map.parts) {
    hasher.add(part.extent);
    hasher.add_all(part.segments);
  }
  return hasher.digest();
}

/// Meshes and maps are shared by many tensors: each is hashed once, known by its address, and enters the digest by its
/// contents: layouts that share less, but say the same, have equal digests.
class SharedHashes {
 public:
  template <typename T>
  std::uint64_t get(const std::shared_ptr<const T>& shared) {
    if (shared == nullptr) return 0;
    const auto [entry, is_new] = known_.emplace(shared.get(), 0);
    if (is_new) entry->second = hash_of(*shared);
    return entry->second;
  }

 private:
  std::unordered_map<const void*, std::uint64_t> known_;
};

void add(const Placement& placement, SharedHashes* shared, Hasher* hasher) {
  hasher->add(static_cast<std::int64_t>(shared->get(placement.mesh)));
  for (const DimPlacement& dim : placement.dims) {
    hasher->add(static_cast<std::int64_t>(shared->get(dim.map)));
    hasher->add_all(dim.axes);
  }
  hasher->add_all(placement.order);
  hasher->add(placement.buffer);
  // The offset only where there is one, which the number says: digests of layouts without offsets stay what they were,
  // and with them the hashes of saved plans.
  hasher->add(static_cast<std::int64_t>(placement.padding) + (placement.offset_bytes != 0 ? 2 : 0));
  if (placement.offset_bytes != 0) hasher->add(placement.offset_bytes);
}

void add(const RankBlock& given, Hasher* hasher) {
  hasher->add(given.rank);
  hasher->add(static_cast<std::int64_t>(given.block.kind));
  hasher->add(given.block.buffer);
  add(given.block.box.begin, hasher);
  add(given.block.box.end, hasher);
  hasher->add(given.block.offset_bytes);
  add(given.block.strides_bytes, hasher);
}

}  // namespace

std::uint64_t ModelLayout::digest() const {
  Hasher hasher;
  SharedHashes shared;
  hasher.add(num_ranks_);
  for (std::size_t t = 0; t < tensors_.size(); ++t) {
    hasher.add(tensors_[t].name);
    hasher.add(static_cast<std::int64_t>(tensors_[t].dtype));
    hasher.add_all(tensors_[t].shape);
    hasher.add(tensors_[t].group);
    for (const Placement& placement : places_[t]) add(placement, &shared, &hasher);
    // A range counts as its blocks: layouts that say the same in either way are equal.
    const std::vector<RankBlock> blocks = rank_blocks(static_cast<std::int64_t>(t));
    hasher.add(static_cast<std::int64_t>(blocks.size()));
    for (const RankBlock& given : blocks) add(given, &hasher);
  }
  // Only where there are any, as with offsets.
  for (std::size_t t = 0; t < tensors_.size() && has_scales(); ++t) {
    hasher.add(static_cast<std::int64_t>(scales_[t].kind));
    hasher.add(scales_[t].tensor);
  }
  for (const Buffer& buffer : buffers_) {
    hasher.add(buffer.name);
    hasher.add(buffer.rank);
    hasher.add(buffer.size_bytes);
  }
  return hasher.digest();
}

}  // namespace reshard
