// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "src/base/status.h"

namespace reshard {

/// Global indices [begin, end) of one dimension, lying at `local` and onwards along the same dimension of the buffer.
struct Segment {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t local = 0;
  bool operator==(const Segment&) const = default;
};

/// What one coordinate holds of a dimension. Global indices may come in any order and several times (a table of
/// experts, one of them in two slots); local ones ascend.
struct DimPart {
  std::vector<Segment> segments;  ///< in local order; none empty; they may repeat global indices, never local ones
  std::int64_t extent = 0;        ///< of the buffer along this dimension
  bool operator==(const DimPart&) const = default;
};

/// How one dimension is divided over the coordinates of the mesh axes that shard it (row-major over those axes). Even,
/// torch.chunk, explicit, cyclic and table cuts, fused and interleaved parameters are all just lists of segments: who
/// reads a map knows no rules.
struct DimMap {
  std::vector<DimPart> parts;  ///< one per coordinate
  /// True: buffer indices that no segment takes are padding of this tensor, part of its local shape.
  /// False: they belong to other tensors that share the buffer.
  bool owns_padding = false;
};

using DimMapPtr = std::shared_ptr<const DimMap>;

/// Most segments of a dimension, over all coordinates: a guard against block 1 on a dimension of 2^40. A short text can
/// ask for so many, of 24 bytes each.
inline constexpr std::int64_t kMaxSegments = std::int64_t{1} << 20;

/// A list of global indices in local order, as runs; what a rule splits.
struct IndexRun {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};
using IndexList = std::vector<IndexRun>;

/// How n entries are shared out over p coordinates; 10 over 4 as an example.
///  kChunk     as torch.chunk: pieces of ceil(n / p), the last ones short or empty: 3 3 3 1
///  kBalanced  sizes that differ by one at most, the larger first: 3 3 2 2
///  kEven      n / p each; refused where that is no integer
///  kCuts      at given positions
///  kCyclic    blocks of a given size dealt out in turn
///  kTable     each coordinate lists what it takes: experts by a table, some of them several times
enum class Rule { kChunk, kBalanced, kEven, kCuts, kCyclic, kTable };

/// One way of splitting an index list of n entries into num_parts lists.
struct Split {
  Rule rule = Rule::kChunk;
  std::int64_t num_parts = 1;
  std::int64_t block = 1;          ///< kCyclic
  std::vector<std::int64_t> cuts;  ///< kCuts: num_parts + 1 positions, 0 first, n last, ascending
  std::vector<IndexList> table;    ///< kTable: per part, positions in the list; repetition and omission allowed
};

/// Splits `list` by `split`; positions are positions in the list, so nesting is repeated application.
/// Errors: kEven that does not divide; cuts or table that do not fit a list of this length; more than kMaxSegments.
Result<std::vector<IndexList>> split_list(const IndexList& list, const Split& split);

/// The map of a dimension of `extent` indices under successive splits, the outermost first. Coordinate order of the
/// result is row-major over `splits`. Segments lie densely in list order; part extents are the list lengths.
Result<DimMap> make_dim_map(std::int64_t extent, const std::vector<Split>& splits);

}  // namespace reshard
