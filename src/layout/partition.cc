// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Who holds what, as disjoint cells. A placement is a product, so its cells are too: cut each dim for itself
// (dim_cells), and every combination of one cell of each dim is a cell, held by the ranks whose coordinates take part
// in all of them. That costs what the cuts cost, not the number of ranks.
//
// Several placements, and blocks given one by one, overlap as they like; their boxes are swept dimension by dimension
// (sweep_cells), where every interval between two bounds is a slab with a constant set of boxes.
#include "src/layout/partition.h"

#include <xxhash.h>

#include <algorithm>
#include <map>

#include "src/layout/placed.h"
#include "src/layout/slabs.h"

namespace reshard {

RankSets::RankSets() {
  intern({});
}

/// Sets of equal hash are compared: a set that was taken for another would give bytes to the wrong ranks.
std::int32_t RankSets::intern(std::vector<std::int32_t> sorted_ranks) {
  const std::uint64_t hash = XXH3_64bits(sorted_ranks.data(), sorted_ranks.size() * sizeof(std::int32_t));
  const auto [first, last] = by_hash_.equal_range(hash);
  for (auto found = first; found != last; ++found) {
    if (at(sets_, found->second) == sorted_ranks) return found->second;
  }
  const auto id = static_cast<std::int32_t>(sets_.size());
  sets_.push_back(std::move(sorted_ranks));
  by_hash_.emplace(hash, id);
  return id;
}

bool RankSets::contains(std::int32_t id, std::int32_t rank) const {
  return std::binary_search(ranks(id).begin(), ranks(id).end(), rank);
}

std::int32_t RankSets::unite(std::int32_t a, std::int32_t b) {
  if (a == b || b == 0) return a;
  if (a == 0) return b;
  std::vector<std::int32_t> both;
  std::set_union(ranks(a).begin(), ranks(a).end(), ranks(b).begin(), ranks(b).end(), std::back_inserter(both));
  return intern(std::move(both));
}

namespace {

/// The longest intervals of one dimension on which the set of holding coordinates is constant. A coordinate is the
/// number of a part: of all axes that shard this dim together.
struct DimCells {
  struct Cell {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    std::int32_t parts = 0;  // index into part_sets
  };
  std::vector<Cell> cells;
  std::vector<std::vector<std::int32_t>> part_sets;  // sorted
};

/// One sweep over all segments of all parts. Parts of a table may repeat indices (redundant experts), so several
/// coordinates can hold an interval; one that none holds is no cell. A dim without a map has one part, number 0, that
/// everybody takes.
DimCells dim_cells(const DimPlacement& placed, std::int64_t extent) {
  DimCells out;
  if (placed.map == nullptr) {
    if (extent > 0) out.cells.push_back({0, extent, 0});
    out.part_sets.push_back({0});
    return out;
  }
  std::vector<Box> segments;
  std::vector<std::int32_t> part_of_segment;
  std::vector<std::int32_t> active;
  for (std::size_t p = 0; p < placed.map->parts.size(); ++p) {
    for (const Segment& segment : placed.map->parts[p].segments) {
      Box box;
      box.num_dims = 1;
      box.begin[0] = segment.begin;
      box.end[0] = segment.end;
      active.push_back(static_cast<std::int32_t>(segments.size()));
      segments.push_back(box);
      part_of_segment.push_back(static_cast<std::int32_t>(p));
    }
  }
  std::map<std::vector<std::int32_t>, std::int32_t> known;
  for_each_slab(0, 0, extent, segments, active,
                [&](std::int64_t begin, std::int64_t end, const std::vector<std::int32_t>& open) {
                  if (open.empty()) return;
                  std::vector<std::int32_t> parts;
                  for (const std::int32_t segment : open) parts.push_back(at(part_of_segment, segment));
                  std::sort(parts.begin(), parts.end());
                  parts.erase(std::unique(parts.begin(), parts.end()), parts.end());
                  const auto [entry, is_new] = known.emplace(parts, static_cast<std::int32_t>(out.part_sets.size()));
                  if (is_new) out.part_sets.push_back(parts);
                  if (!out.cells.empty() && out.cells.back().end == begin && out.cells.back().parts == entry->second) {
                    out.cells.back().end = end;
                  } else {
                    out.cells.push_back({begin, end, entry->second});
                  }
                });
  return out;
}

/// Turns combinations of part sets, one per dimension, into rank sets; each combination is computed once. It looks at
/// ranks of the wanted parts of the finest dim only and filters these by the others: where experts are cut over 64
/// ranks, that is a 64th of the mesh.
class HolderTable {
 public:
  HolderTable(const Placement& placement, const std::vector<DimCells>& dims, RankSets* sets)
      : placement_(placement), dims_(dims), sets_(sets) {
    // Positions of the mesh by the part they take of the dimension that is cut finest: the scan below starts there.
    // With no dim cut at all, all of them are in one list.
    for (std::size_t d = 0; d < dims.size(); ++d) {
      const DimMapPtr& map = placement.dims[d].map;
      if (map != nullptr && map->parts.size() > positions_.size()) {
        finest_ = static_cast<int>(d);
        positions_.resize(map->parts.size());
      }
    }
    if (finest_ < 0) positions_.resize(1);
    for (std::size_t i = 0; i < placement.mesh->ranks().size(); ++i) {
      if (placement.mesh->ranks()[i] == Mesh::kNoRank) continue;
      const auto index = static_cast<std::int64_t>(i);
      const std::int64_t part = finest_ < 0 ? 0 : part_index(*placement.mesh, at(placement.dims, finest_).axes, index);
      at(positions_, part).push_back(index);
    }
  }

  std::int32_t holders(const std::vector<std::int32_t>& part_sets) {
    const auto [entry, is_new] = known_.emplace(part_sets, 0);
    if (is_new) entry->second = compute(part_sets);
    return entry->second;
  }

 private:
  std::int32_t compute(const std::vector<std::int32_t>& part_sets) {
    static const std::vector<std::int32_t> kOnlyPart = {0};
    const auto& candidates = finest_ < 0 ? kOnlyPart : at(at(dims_, finest_).part_sets, at(part_sets, finest_));
    std::vector<std::int32_t> ranks;
    for (const std::int32_t part : candidates) {
      for (const std::int64_t index : at(positions_, part)) {
        if (holds_other_dims(part_sets, index)) ranks.push_back(at(placement_.mesh->ranks(), index));
      }
    }
    std::sort(ranks.begin(), ranks.end());
    return sets_->intern(std::move(ranks));
  }

  /// A rank holds a cell if its part of every dim is among the parts that hold the cell's interval of that dim.
  bool holds_other_dims(const std::vector<std::int32_t>& part_sets, std::int64_t index) const {
    for (int d = 0; d < static_cast<int>(dims_.size()); ++d) {
      const DimPlacement& placed = at(placement_.dims, d);
      if (placed.map == nullptr || d == finest_) continue;
      const auto& wanted = at(at(dims_, d).part_sets, at(part_sets, d));
      const auto part = static_cast<std::int32_t>(part_index(*placement_.mesh, placed.axes, index));
      if (!std::binary_search(wanted.begin(), wanted.end(), part)) return false;
    }
    return true;
  }

  const Placement& placement_;
  const std::vector<DimCells>& dims_;
  RankSets* sets_;
  int finest_ = -1;
  std::vector<std::vector<std::int64_t>> positions_;
  std::map<std::vector<std::int32_t>, std::int32_t> known_;
};

/// Cells of one placement, ordered by begin: i counts the combinations as a number whose last digit is that of the last
/// dim. Combinations that no rank holds (positions that ranks have left) are no cells.
std::vector<Cell> cells_of(const Tensor& tensor, const Placement& placement, RankSets* sets) {
  const int num_dims = static_cast<int>(tensor.shape.size());
  std::vector<DimCells> dims;
  std::int64_t num_cells = 1;
  for (int d = 0; d < num_dims; ++d) {
    dims.push_back(dim_cells(at(placement.dims, d), at(tensor.shape, d)));
    num_cells *= static_cast<std::int64_t>(dims.back().cells.size());
  }
  HolderTable table(placement, dims, sets);
  std::vector<Cell> cells;
  cells.reserve(static_cast<std::size_t>(num_cells));
  std::vector<std::int32_t> part_sets(dims.size());
  for (std::int64_t i = 0; i < num_cells; ++i) {
    Cell cell;
    cell.box.num_dims = num_dims;
    // The digits of i, from the last dim on, say which cell of each dim this is.
    std::int64_t rest = i;
    for (int d = num_dims - 1; d >= 0; --d) {
      const auto count = static_cast<std::int64_t>(at(dims, d).cells.size());
      const DimCells::Cell& part = at(at(dims, d).cells, rest % count);
      rest /= count;
      cell.box.begin[d] = part.begin;
      cell.box.end[d] = part.end;
      at(part_sets, d) = part.parts;
    }
    cell.holders = table.holders(part_sets);
    if (cell.holders != 0) cells.push_back(cell);
  }
  return cells;
}

/// Cells of the boxes `active` within `partial`, whose dims before `dim` are cut to one slab each already. When all
/// are, the boxes left all contain it, and their holders unite.
void sweep_from(int dim, const Box& partial, const std::vector<Box>& boxes, const std::vector<Cell>& cells,
                const std::vector<std::int32_t>& active, RankSets* sets, std::vector<Cell>* out) {
  if (dim == partial.num_dims) {
    Cell cell{partial, 0};
    for (const std::int32_t i : active) cell.holders = sets->unite(cell.holders, at(cells, i).holders);
    out->push_back(cell);
    return;
  }
  for_each_slab(dim, partial.begin[dim], partial.end[dim], boxes, active,
                [&](std::int64_t begin, std::int64_t end, const std::vector<std::int32_t>& in_slab) {
                  if (in_slab.empty()) return;
                  Box slab = partial;
                  slab.begin[dim] = begin;
                  slab.end[dim] = end;
                  sweep_from(dim + 1, slab, boxes, cells, in_slab, sets, out);
                });
}

/// Equal boxes become one with all their holders, so that replicas cost the sweep nothing: it pays for each box in each
/// slab that it is in.
std::vector<Cell> unite_equal_boxes(std::vector<Cell> cells, RankSets* sets) {
  const auto key = [](const Cell& cell) {
    std::vector<std::int64_t> bounds(cell.box.begin.values, cell.box.begin.values + kMaxDims);
    bounds.insert(bounds.end(), cell.box.end.values, cell.box.end.values + kMaxDims);
    return bounds;
  };
  std::map<std::vector<std::int64_t>, std::vector<std::int32_t>> by_box;
  for (std::size_t i = 0; i < cells.size(); ++i) by_box[key(cells[i])].push_back(static_cast<std::int32_t>(i));
  std::vector<Cell> out;
  for (const auto& [bounds, members] : by_box) {
    std::vector<std::int32_t> ranks;
    for (const std::int32_t member : members) {
      const auto& held = sets->ranks(at(cells, member).holders);
      ranks.insert(ranks.end(), held.begin(), held.end());
    }
    std::sort(ranks.begin(), ranks.end());
    ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
    out.push_back({at(cells, members.front()).box, sets->intern(std::move(ranks))});
  }
  return out;
}

}  // namespace

/// The sweep starts from the hull of all boxes: outside there is nothing to find.
std::vector<Cell> sweep_cells(int num_dims, std::vector<Cell> given, RankSets* sets) {
  std::erase_if(given, [](const Cell& cell) { return cell.box.empty() || cell.holders == 0; });
  if (given.empty()) return {};
  const std::vector<Cell> cells = unite_equal_boxes(std::move(given), sets);
  std::vector<Box> boxes;
  std::vector<std::int32_t> active;
  Box hull = cells.front().box;
  for (const Cell& cell : cells) {
    active.push_back(static_cast<std::int32_t>(boxes.size()));
    boxes.push_back(cell.box);
    for (int d = 0; d < num_dims; ++d) {
      hull.begin[d] = std::min(hull.begin[d], cell.box.begin[d]);
      hull.end[d] = std::max(hull.end[d], cell.box.end[d]);
    }
  }
  std::vector<Cell> out;
  sweep_from(0, hull, boxes, cells, active, sets, &out);
  return out;
}

namespace {

template <typename T>
void append_bytes(const T& value, std::string* key) {
  key->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

/// Equal keys mean equal partitions: same shape, same meshes, same maps. Pointers serve as names within one layout, as
/// tensors that are placed alike share mesh and maps; two equal maps in two places only cost a second computation.
/// Buffers, orders and offsets are left out: they say where bytes lie, not who has them.
std::string structure_key(const Tensor& tensor, const std::vector<Placement>& placements) {
  std::string key;
  for (const std::int64_t extent : tensor.shape) append_bytes(extent, &key);
  for (const Placement& placement : placements) {
    append_bytes(placement.mesh.get(), &key);
    for (const DimPlacement& dim : placement.dims) {
      append_bytes(dim.map.get(), &key);
      append_bytes(dim.axes.size(), &key);
      for (const int axis : dim.axes) append_bytes(axis, &key);
    }
  }
  return key;
}

}  // namespace

/// Tensors with blocks of their own are not looked up: their structure is the list of blocks, as long as the work that
/// it would save. The cells of a single placement are disjoint as they are.
std::int32_t Partitioner::partition_of(std::int64_t tensor) {
  // A layout that plans add tensors to may have grown.
  if (tensor >= std::ssize(made_.of_tensor)) made_.of_tensor.resize(layout_.tensors().size(), -1);
  std::int32_t& known = at(made_.of_tensor, tensor);
  if (known < 0) known = compute(tensor);
  return known;
}

std::int32_t Partitioner::compute(std::int64_t tensor) {
  const Tensor& described = at(layout_.tensors(), tensor);
  const auto& placements = layout_.placements(tensor);
  const std::vector<RankBlock> rank_blocks = layout_.rank_blocks(tensor);
  std::string key;
  if (rank_blocks.empty()) {
    key = structure_key(described, placements);
    const auto known = by_structure_.find(key);
    if (known != by_structure_.end()) return known->second;
  }
  Partition partition;
  for (const Placement& placement : placements) {
    std::vector<Cell> cells = cells_of(described, placement, sets_);
    partition.cells.insert(partition.cells.end(), cells.begin(), cells.end());
  }
  for (const RankBlock& given : rank_blocks) {
    if (given.block.kind == BlockKind::kData) {
      partition.cells.push_back({given.block.box, sets_->intern({given.rank})});
    }
  }
  const bool is_disjoint = rank_blocks.empty() && placements.size() <= 1;
  if (!is_disjoint) {
    partition.cells = sweep_cells(static_cast<int>(described.shape.size()), std::move(partition.cells), sets_);
  }
  const auto id = static_cast<std::int32_t>(made_.list.size());
  made_.list.push_back(std::make_shared<const Partition>(std::move(partition)));
  if (rank_blocks.empty()) by_structure_.emplace(std::move(key), id);
  return id;
}

}  // namespace reshard
