// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The planner's view of a layout: for each tensor disjoint boxes, and who holds each. Addresses, buffers and padding
// are gone here; they matter again when a plan is run.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "src/layout/layout.h"

namespace reshard {

/// Sorted lists of distinct ranks, each stored once. Id 0 is the empty set. Equal sets have equal ids, so that whoever
/// compares or groups by holders compares two integers; a set of a thousand replicas is then no dearer than one of one
/// rank.
class RankSets {
 public:
  RankSets();
  std::int32_t intern(std::vector<std::int32_t> sorted_ranks);
  const std::vector<std::int32_t>& ranks(std::int32_t id) const { return at(sets_, id); }
  std::int32_t size() const { return static_cast<std::int32_t>(sets_.size()); }
  bool contains(std::int32_t id, std::int32_t rank) const;
  std::int32_t unite(std::int32_t a, std::int32_t b);

 private:
  std::vector<std::vector<std::int32_t>> sets_;
  std::unordered_multimap<std::uint64_t, std::int32_t> by_hash_;
};

/// A box on which the set of holders is constant.
struct Cell {
  Box box;
  std::int32_t holders = 0;  ///< id in RankSets
};

/// Who holds what of one tensor: disjoint cells, ordered by begin, each with at least one holder.
/// @post every element that some rank holds is in exactly one cell
struct Partition {
  std::vector<Cell> cells;
};

/// Those of the tensors of a layout, kept for layouts that differ from it in few of them.
struct Partitions {
  std::vector<std::shared_ptr<const Partition>> list;
  std::vector<std::int32_t> of_tensor;  ///< index in `list`; -1: not known

  std::int64_t num_cells() const {
    std::int64_t count = 0;
    for (const auto& partition : list) count += static_cast<std::int64_t>(partition->cells.size());
    return count;
  }
};

/// Computes partitions; equal structures (same mesh, same maps, same shape) share one. A model of a hundred layers has
/// some dozen structures.
class Partitioner {
 public:
  /// `known`: what is known already, with the ids of `sets`.
  Partitioner(const ModelLayout& layout, RankSets* sets, Partitions known = {})
      : layout_(layout), sets_(sets), made_(std::move(known)) {
    made_.of_tensor.resize(layout.tensors().size(), -1);
  }

  /// Id of the tensor's partition; tensors of equal structure get the same id.
  std::int32_t partition_of(std::int64_t tensor);
  const Partition& partition(std::int32_t id) const { return *at(made_.list, id); }
  const Partitions& all() const { return made_; }

 private:
  std::int32_t compute(std::int64_t tensor);

  const ModelLayout& layout_;
  RankSets* sets_;
  Partitions made_;
  std::unordered_map<std::string, std::int32_t> by_structure_;
};

/// The coarsest disjoint cells of arbitrary boxes with holders, where overlapping boxes unite their holders.
std::vector<Cell> sweep_cells(int num_dims, std::vector<Cell> boxes, RankSets* sets);

}  // namespace reshard
