// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

// Brute force: index by index, from the definitions of the rules and of row-major order, in none of the ways in which
// the library computes them; and generators of random layouts whose contents the brute force knows.

#include <rapidcheck.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <numeric>
#include <vector>

#include "src/layout/layout.h"
#include "tests/unit/random_number.h"

namespace reshard::oracle {

using Indices = std::vector<std::int64_t>;

inline constexpr std::int64_t kPadding = -1;

inline std::int64_t size_of(const Indices& list) {
  return static_cast<std::int64_t>(list.size());
}

inline Indices iota(std::int64_t n) {
  Indices list(static_cast<std::size_t>(n));
  std::iota(list.begin(), list.end(), std::int64_t{0});
  return list;
}

/// The coordinate that takes position p of a list of n, for the rules that deal every position to one coordinate.
inline std::int64_t coordinate_of(const Split& split, std::int64_t n, std::int64_t p) {
  const std::int64_t parts = split.num_parts;
  switch (split.rule) {
    case Rule::kChunk: {
      std::int64_t ceil = 0;
      while (ceil * parts < n) ++ceil;
      return p / ceil;
    }
    case Rule::kEven:
      return p / (n / parts);
    case Rule::kBalanced: {
      std::int64_t k = 0;
      for (std::int64_t size = n / parts + (n % parts > 0 ? 1 : 0); p >= size;) {
        p -= size;
        ++k;
        size = n / parts + (k < n % parts ? 1 : 0);
      }
      return k;
    }
    case Rule::kCuts: {
      std::int64_t k = 0;
      while (!(at(split.cuts, k) <= p && p < at(split.cuts, k + 1))) ++k;
      return k;
    }
    case Rule::kCyclic:
      return p / split.block % parts;
    default:
      return -1;
  }
}

inline std::vector<Indices> split(const Indices& list, const Split& split) {
  std::vector<Indices> parts(static_cast<std::size_t>(split.num_parts));
  if (split.rule == Rule::kTable) {
    for (std::size_t k = 0; k < parts.size(); ++k) {
      for (const IndexRun& entry : split.table[k]) {
        for (std::int64_t p = entry.begin; p < entry.end; ++p) parts[k].push_back(at(list, p));
      }
    }
    return parts;
  }
  for (std::int64_t p = 0; p < size_of(list); ++p) {
    at(parts, coordinate_of(split, size_of(list), p)).push_back(at(list, p));
  }
  return parts;
}

/// Every list split in turn; the lists stay in row-major order over the splits.
inline std::vector<Indices> split_all(const std::vector<Indices>& lists, const Split& by) {
  std::vector<Indices> next;
  for (const Indices& list : lists) {
    for (Indices& part : split(list, by)) next.push_back(std::move(part));
  }
  return next;
}

inline Indices indices_of(const IndexList& list) {
  Indices out;
  for (const IndexRun& run : list) {
    for (std::int64_t i = run.begin; i < run.end; ++i) out.push_back(i);
  }
  return out;
}

/// What a part says each buffer index holds.
inline Indices indices_of(const DimPart& part) {
  Indices out(static_cast<std::size_t>(part.extent), kPadding);
  for (const Segment& segment : part.segments) {
    for (std::int64_t i = segment.begin; i < segment.end; ++i) at(out, segment.local + i - segment.begin) = i;
  }
  return out;
}

/// Calls visit(index) for every index below `shape`, row-major.
inline void for_each_index(const Indices& shape, const std::function<void(const Indices&)>& visit) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return;
  Indices index(shape.size(), 0);
  while (true) {
    visit(index);
    std::size_t d = shape.size();
    while (d > 0 && ++index[d - 1] == shape[d - 1]) index[--d] = 0;
    if (d == 0) return;
  }
}

inline bool contains(const Box& box, const Indices& index) {
  for (int d = 0; d < box.num_dims; ++d) {
    if (at(index, d) < box.begin[d] || at(index, d) >= box.end[d]) return false;
  }
  return true;
}

inline Indices random_shape(std::int64_t max_dims, std::int64_t max_extent) {
  Indices shape;
  for (std::int64_t d = random(0, max_dims); d > 0; --d) shape.push_back(random(0, max_extent));
  return shape;
}

/// Sizes of the mesh axes. Axes of one coordinate are the common corner case.
inline std::vector<MeshAxis> random_axes(std::int64_t max_axes, std::int64_t max_size) {
  std::vector<MeshAxis> axes;
  for (std::int64_t a = random(1, max_axes); a > 0; --a) axes.push_back({"axis", random(1, max_size)});
  return axes;
}

/// A mesh over some of the world's ranks, in any order.
inline MeshPtr random_mesh(std::int32_t num_ranks) {
  std::vector<MeshAxis> axes = random_axes(3, 3);
  std::int64_t size = 1;
  for (MeshAxis& axis : axes) {
    axis.size = std::min(axis.size, num_ranks / size);
    size *= axis.size;
  }
  std::vector<std::int32_t> ranks(static_cast<std::size_t>(num_ranks));
  std::iota(ranks.begin(), ranks.end(), 0);
  for (std::int64_t i = 0; i < num_ranks; ++i) std::swap(at(ranks, i), at(ranks, random(i, num_ranks - 1)));
  ranks.resize(static_cast<std::size_t>(size));
  Result<MeshPtr> mesh = Mesh::create(axes, ranks);
  RC_ASSERT(mesh.ok());
  return mesh.take();
}

inline IndexList random_table_row(std::int64_t n) {
  IndexList row;
  for (std::int64_t entry = random(0, 4); entry > 0; --entry) {
    const std::int64_t begin = random(0, n);
    row.push_back({begin, random(begin, n)});
  }
  return row;
}

/// A split that fits every one of the lists. Positions (cuts, tables) need lists of equal length.
inline Split random_split(const std::vector<Indices>& lists, std::int64_t num_parts) {
  const std::int64_t n = size_of(lists.front());
  const bool all_equal =
      std::all_of(lists.begin(), lists.end(), [n](const Indices& list) { return size_of(list) == n; });
  Split split;
  split.num_parts = num_parts;
  split.rule = *rc::gen::element(Rule::kChunk, Rule::kBalanced, Rule::kEven, Rule::kCuts, Rule::kCyclic, Rule::kTable,
                                 Rule::kTable);
  if (split.rule == Rule::kEven && (!all_equal || n % num_parts != 0)) split.rule = Rule::kChunk;
  if (!all_equal && (split.rule == Rule::kCuts || split.rule == Rule::kTable)) split.rule = Rule::kBalanced;
  if (split.rule == Rule::kCyclic) split.block = random(1, 4);
  if (split.rule == Rule::kCuts) {
    split.cuts = {0, n};
    while (size_of(split.cuts) < num_parts + 1) split.cuts.push_back(random(0, n));
    std::sort(split.cuts.begin(), split.cuts.end());
  }
  if (split.rule == Rule::kTable) {
    for (std::int64_t k = 0; k < num_parts; ++k) split.table.push_back(random_table_row(n));
  }
  return split;
}

/// A dimension under random splits, and what the brute force says each coordinate holds.
struct RandomDim {
  std::vector<Split> splits;
  std::vector<Indices> lists;
};

inline RandomDim random_dim(std::int64_t extent, const Indices& axis_sizes) {
  RandomDim dim;
  dim.lists = {iota(extent)};
  for (const std::int64_t size : axis_sizes) {
    dim.splits.push_back(random_split(dim.lists, size));
    dim.lists = split_all(dim.lists, dim.splits.back());
  }
  return dim;
}

}  // namespace reshard::oracle
