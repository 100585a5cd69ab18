// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Refuses destinations of which two blocks write the same byte, for which value stays would depend on the order in
// which messages arrive. Explicit blocks may interleave in any way, so they are compared run by run; a placement is a
// dense array on each rank, so that of those which share a buffer by offsets it is enough to compare where they lie.
#include "src/layout/overlap.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "src/layout/placed.h"

namespace reshard {
namespace {

/// Most contiguous runs that blocks of one buffer may consist of: what the exact check can afford.
constexpr std::int64_t kMostRuns = std::int64_t{1} << 24;

struct ByteRun {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  const Block* block = nullptr;
};

/// Splits a block into contiguous runs of bytes: the dims that lie densely inside, times the rest.
Status append_runs(const Block& block, std::int64_t element_bytes, std::vector<ByteRun>* runs) {
  std::vector<int> dims;
  for (int d = 0; d < block.box.num_dims; ++d) {
    if (block.box.extent(d) > 1) dims.push_back(d);
  }
  std::sort(dims.begin(), dims.end(),
            [&](int a, int b) { return std::abs(block.strides_bytes[a]) < std::abs(block.strides_bytes[b]); });
  std::int64_t run_bytes = element_bytes;
  std::size_t dense = 0;
  std::int64_t offset = block.offset_bytes;
  // Invariant: the dims before `dense` make one run of run_bytes bytes from `offset` on. A dim that steps by exactly
  // that extends it; downwards the run begins at the dim's far end.
  for (; dense < dims.size() && std::abs(block.strides_bytes[dims[dense]]) == run_bytes; ++dense) {
    const int d = dims[dense];
    if (block.strides_bytes[d] < 0) offset += (block.box.extent(d) - 1) * block.strides_bytes[d];
    run_bytes *= block.box.extent(d);
  }
  std::int64_t count = 1;
  for (std::size_t i = dense; i < dims.size(); ++i) count *= std::min(kMostRuns, block.box.extent(dims[i]));
  if (count + static_cast<std::int64_t>(runs->size()) > kMostRuns) {
    return {RESHARD_ERR_NOT_SUPPORTED,
            fmt::format("buffer {} is written in more than {} contiguous runs; use larger blocks", block.buffer,
                        kMostRuns)};
  }
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t begin = offset;
    std::int64_t rest = i;
    for (std::size_t k = dense; k < dims.size(); ++k) {
      begin += rest % block.box.extent(dims[k]) * block.strides_bytes[dims[k]];
      rest /= block.box.extent(dims[k]);
    }
    runs->push_back({begin, begin + run_bytes, &block});
  }
  return {};
}

/// Explicit blocks: compared run by run, because strided blocks may interleave.
Status check_blocks(const ModelLayout& layout) {
  std::map<std::int64_t, std::vector<ByteRun>> runs_of_buffer;
  std::vector<std::vector<RankBlock>> blocks_of_tensor;  // which the runs point into
  for (std::int64_t t = 0; t < std::ssize(layout.tensors()); ++t) blocks_of_tensor.push_back(layout.rank_blocks(t));
  for (std::size_t t = 0; t < layout.tensors().size(); ++t) {
    const std::int64_t element_bytes = size_bytes(layout.tensors()[t].dtype);
    for (const RankBlock& given : blocks_of_tensor[t]) {
      if (given.block.kind == BlockKind::kUntouched) continue;
      RESHARD_TRY(append_runs(given.block, element_bytes, &runs_of_buffer[given.block.buffer]));
    }
  }
  for (auto& [buffer, runs] : runs_of_buffer) {
    std::sort(runs.begin(), runs.end(), [](const ByteRun& a, const ByteRun& b) { return a.begin < b.begin; });
    for (std::size_t i = 1; i < runs.size(); ++i) {
      // Sorted by their begins, so that if any two overlap, some two neighbours do.
      if (runs[i].begin >= runs[i - 1].end) continue;
      const Block& first = *runs[i - 1].block;
      const Block& second = *runs[i].block;
      return invalid_argument(fmt::format(
          "destination blocks overlap at byte {} of buffer \"{}\" of rank {}: tensor \"{}\" {} and tensor \"{}\" {}",
          runs[i].begin, at(layout.buffers(), buffer).name, at(layout.buffers(), buffer).rank,
          at(layout.tensors(), first.tensor).name, to_string(first.box), at(layout.tensors(), second.tensor).name,
          to_string(second.box)));
    }
  }
  return {};
}

/// The array of a placement on one rank.
struct PlacedArray {
  std::int32_t rank = 0;
  std::int64_t tensor = 0;
  ByteSpan span;
};

Status check_arrays(const ModelLayout& layout, const Buffer& buffer, std::vector<PlacedArray>* arrays) {
  std::sort(arrays->begin(), arrays->end(), [](const PlacedArray& a, const PlacedArray& b) {
    return std::pair{a.rank, a.span.begin} < std::pair{b.rank, b.span.begin};
  });
  for (std::size_t i = 1; i < arrays->size(); ++i) {
    const PlacedArray& first = (*arrays)[i - 1];
    const PlacedArray& second = (*arrays)[i];
    if (second.rank != first.rank || second.span.begin >= first.span.end) continue;
    return invalid_argument(fmt::format(
        "destination placements overlap in buffer \"{}\" of rank {}: tensor \"{}\" takes bytes [{}, {}) and tensor "
        "\"{}\" bytes [{}, {}); give other offsets",
        buffer.name, first.rank, at(layout.tensors(), first.tensor).name, first.span.begin, first.span.end,
        at(layout.tensors(), second.tensor).name, second.span.begin, second.span.end));
  }
  return {};
}

/// Placements with offsets: each fills a dense array, padding included, so comparing the arrays' ends is exact.
/// Placements that share one array (fused parameters) are disjoint by the maps that the models make, and not compared.
Status check_offsets(const ModelLayout& layout) {
  std::map<std::int64_t, std::vector<PlacedArray>> arrays_of_buffer;
  for (std::size_t t = 0; t < layout.tensors().size(); ++t) {
    const auto tensor = static_cast<std::int64_t>(t);
    for (const Placement& placement : layout.placements(tensor)) {
      if (!at(layout.buffers(), placement.buffer).by_offset) continue;
      std::vector<PlacedArray>& arrays = arrays_of_buffer[placement.buffer];
      const std::vector<std::int32_t>& ranks = placement.mesh->ranks();
      for (std::size_t i = 0; i < ranks.size(); ++i) {
        if (ranks[i] == Mesh::kNoRank) continue;
        const ByteSpan span = placed_span(layout.tensors()[t], placement, static_cast<std::int64_t>(i));
        if (span.begin < span.end) arrays.push_back({ranks[i], tensor, span});
      }
    }
  }
  for (auto& [buffer, arrays] : arrays_of_buffer) {
    RESHARD_TRY(check_arrays(layout, at(layout.buffers(), buffer), &arrays));
  }
  return {};
}

}  // namespace

Status check_no_overlap(const ModelLayout& layout) {
  RESHARD_TRY(check_blocks(layout));
  return check_offsets(layout);
}

}  // namespace reshard
