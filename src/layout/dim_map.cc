// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// How rules cut one dim. A list of index runs is split again and again, once for each mesh axis that shards the dim, so
// that nested cuts (first over data-parallel, then over tensor-parallel ranks) need no rule of their own. Work grows
// with the number of runs, never with the extent: a vocabulary cut in 8 is 8 runs.
//
// Rejected: layouts as functions of shapes and strides that are composed. They need shapes that divide each other, and
// give a wrong layout without a word where they do not; here only kEven asks for it.
#include "src/layout/dim_map.h"

#include <fmt/format.h>

#include <algorithm>

namespace reshard {
namespace {

/// Cuts position ranges out of an index list in O(log runs + runs taken). Positions count the list's entries, whatever
/// they are: so a rule works the same on a whole dim and on what an outer rule left of it. Pieces that join up become
/// one run again.
class Slicer {
 public:
  explicit Slicer(const IndexList& list) : list_(list) {
    starts_.reserve(list.size());
    for (const IndexRun& run : list) {
      starts_.push_back(size_);
      size_ += run.end - run.begin;
    }
  }

  std::int64_t size() const { return size_; }

  void append(std::int64_t begin, std::int64_t end, IndexList* out) const {
    if (begin >= end) return;
    auto i = static_cast<std::size_t>(std::upper_bound(starts_.begin(), starts_.end(), begin) - starts_.begin() - 1);
    for (; begin < end; ++i) {
      const std::int64_t skip = begin - starts_[i];
      const std::int64_t take = std::min(end - begin, list_[i].end - list_[i].begin - skip);
      const IndexRun run{list_[i].begin + skip, list_[i].begin + skip + take};
      if (!out->empty() && out->back().end == run.begin) {
        out->back().end = run.end;
      } else if (take > 0) {
        out->push_back(run);
      }
      begin += take;
    }
  }

 private:
  const IndexList& list_;
  std::vector<std::int64_t> starts_;
  std::int64_t size_ = 0;
};

/// The positions at which contiguous rules cut a list of n entries: num_parts + 1 of them.
Result<std::vector<std::int64_t>> contiguous_cuts(std::int64_t n, const Split& split) {
  const std::int64_t parts = split.num_parts;
  if (split.rule == Rule::kCuts) {
    const auto& cuts = split.cuts;
    if (static_cast<std::int64_t>(cuts.size()) != parts + 1 || cuts.front() != 0 || cuts.back() != n ||
        !std::is_sorted(cuts.begin(), cuts.end())) {
      return invalid_argument(
          fmt::format("cuts [{}] do not fit a list of {} entries over {} coordinates; give {} "
                      "ascending positions from 0 to {}",
                      fmt::join(cuts, ", "), n, parts, parts + 1, n));
    }
    return cuts;
  }
  if (split.rule == Rule::kEven && n % parts != 0) {
    return invalid_argument(
        fmt::format("{} entries do not divide evenly over {} coordinates; use the rule chunk or "
                    "balanced",
                    n, parts));
  }
  // torch.chunk: pieces of ceil(n / parts), the last ones short or empty. Written without n + parts - 1, which could
  // leave 63 bits, as n may be 2^62.
  const std::int64_t chunk = n / parts + (n % parts != 0 ? 1 : 0);
  std::vector<std::int64_t> cuts(static_cast<std::size_t>(parts) + 1);
  for (std::int64_t p = 0; p <= parts; ++p) {
    // For chunk, p * chunk may be beyond n, or beyond 63 bits: then the cut is at n.
    cuts[static_cast<std::size_t>(p)] = split.rule == Rule::kBalanced
                                            ? n / parts * p + std::min(p, n % parts)
                                            : (chunk == 0 || p > n / chunk ? n : std::min(n, p * chunk));
  }
  return cuts;
}

/// The number of blocks is bounded before any is made: block 1 on a dim of 2^40 would be 2^40 runs.
Status split_cyclic(const Slicer& slicer, const Split& split, std::vector<IndexList>* parts) {
  if (split.block < 1) return invalid_argument(fmt::format("block is {}; blocks hold 1 or more entries", split.block));
  const std::int64_t num_blocks = slicer.size() / split.block + (slicer.size() % split.block != 0 ? 1 : 0);
  if (num_blocks > kMaxSegments) {
    return invalid_argument(fmt::format("block {} cuts {} entries into {} pieces; at most {} are supported",
                                        split.block, slicer.size(), num_blocks, kMaxSegments));
  }
  for (std::int64_t b = 0; b < num_blocks; ++b) {
    const std::int64_t begin = b * split.block;
    const std::int64_t end = slicer.size() - begin < split.block ? slicer.size() : begin + split.block;
    slicer.append(begin, end, &(*parts)[static_cast<std::size_t>(b % split.num_parts)]);
  }
  return {};
}

/// Rows name positions in the list, in the order in which the coordinate has them in memory: a permutation is a table
/// of one-entry runs. Runs that join up are one, so that a table that is no permutation stays short.
Status split_table(const Slicer& slicer, const Split& split, std::vector<IndexList>* parts) {
  if (split.table.size() != parts->size()) {
    return invalid_argument(fmt::format("table has {} rows for {} coordinates; give one per coordinate",
                                        split.table.size(), parts->size()));
  }
  constexpr std::int64_t kMostEntries = std::int64_t{1} << 62;
  std::int64_t num_runs = 0;  // of the rows so far
  for (std::size_t p = 0; p < parts->size(); ++p) {
    std::int64_t num_entries = 0;
    for (const IndexRun& entry : split.table[p]) {
      if (entry.begin < 0 || entry.end < entry.begin || entry.end > slicer.size()) {
        return invalid_argument(
            fmt::format("table entry [{}, {}) of coordinate {} is out of range; the list it splits "
                        "has {} entries",
                        entry.begin, entry.end, p, slicer.size()));
      }
      // Repetition can make a list longer than the dimension, and of more runs than the table.
      if (entry.end - entry.begin > kMostEntries - num_entries ||
          num_runs + static_cast<std::int64_t>((*parts)[p].size()) > kMaxSegments) {
        return invalid_argument(
            fmt::format("table rows up to coordinate {} list more than 2^62 entries or {} pieces", p, kMaxSegments));
      }
      num_entries += entry.end - entry.begin;
      slicer.append(entry.begin, entry.end, &(*parts)[p]);
    }
    num_runs += static_cast<std::int64_t>((*parts)[p].size());
  }
  return {};
}

}  // namespace

Result<std::vector<IndexList>> split_list(const IndexList& list, const Split& split) {
  if (split.num_parts < 1) return invalid_argument(fmt::format("cannot split over {} coordinates", split.num_parts));
  const Slicer slicer(list);
  std::vector<IndexList> parts(static_cast<std::size_t>(split.num_parts));
  if (split.rule == Rule::kCyclic) {
    RESHARD_TRY(split_cyclic(slicer, split, &parts));
  } else if (split.rule == Rule::kTable) {
    RESHARD_TRY(split_table(slicer, split, &parts));
  } else {
    RESHARD_TRY(const std::vector<std::int64_t> cuts, contiguous_cuts(slicer.size(), split));
    for (std::size_t p = 0; p < parts.size(); ++p) slicer.append(cuts[p], cuts[p + 1], &parts[p]);
  }
  return parts;
}

/// Splits are applied to every list that the ones before left, so that each may come out uneven in its own way: chunks
/// of chunks are not chunks of the whole. Places in the buffer are given at the end, one run behind the other.
Result<DimMap> make_dim_map(std::int64_t extent, const std::vector<Split>& splits) {
  // One list for each combination of coordinates so far, the latest axis fastest.
  std::vector<IndexList> lists(1);
  if (extent > 0) lists[0].push_back({0, extent});
  for (const Split& split : splits) {
    std::vector<IndexList> next;
    std::size_t num_segments = 0;
    for (const IndexList& list : lists) {
      RESHARD_TRY(std::vector<IndexList> parts, split_list(list, split));
      for (IndexList& part : parts) {
        // An empty part counts as well, for it takes memory, too.
        num_segments += part.size() + 1;
        next.push_back(std::move(part));
      }
      if (num_segments > static_cast<std::size_t>(kMaxSegments)) {
        return invalid_argument(fmt::format("a dimension of {} is cut into more than {} pieces", extent, kMaxSegments));
      }
    }
    lists = std::move(next);
  }
  DimMap map;
  map.parts.resize(lists.size());
  for (std::size_t p = 0; p < lists.size(); ++p) {
    DimPart& part = map.parts[p];
    for (const IndexRun& run : lists[p]) {
      part.segments.push_back({run.begin, run.end, part.extent});
      part.extent += run.end - run.begin;
    }
  }
  return map;
}

}  // namespace reshard
