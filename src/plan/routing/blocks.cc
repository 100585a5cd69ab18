// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/blocks.h"

#include <algorithm>
#include <map>

#include "src/base/at.h"
#include "src/plan/loads.h"

namespace reshard::routing {
namespace {

/// Consecutive bytes of a bundle's stream that are of one block: groups ascend along the stream.
struct Piece {
  std::size_t block = 0;
  Range range;
};

/// The pieces of a bundle, ascending.
std::vector<Piece> pieces_of(const Plan& plan, std::int32_t bundle, const GroupSplitter* splitter,
                             std::int64_t groups_per_block) {
  const Range whole{bundle, 0, at(plan.bundles, bundle).size_bytes};
  if (splitter == nullptr) return {{0, whole}};
  std::vector<GroupBytes> parts;
  splitter->split(whole, &parts);
  std::vector<Piece> out;
  std::int64_t begin = 0;
  for (const GroupBytes& part : parts) {
    const auto block = static_cast<std::size_t>(part.group / groups_per_block);
    if (out.empty() || out.back().block != block) out.push_back({block, {bundle, begin, begin}});
    begin += part.bytes;
    out.back().range.end = begin;
  }
  return out;
}

}  // namespace

std::vector<std::int64_t> block_sizes(std::int64_t num_groups, std::int64_t open_groups) {
  std::vector<std::int64_t> out;
  for (std::int64_t count = ceil_div(num_groups, open_groups); count <= num_groups; ++count) {
    const std::int64_t size = ceil_div(num_groups, count);
    if (out.empty() || out.back() != size) out.push_back(size);
  }
  return out;
}

std::vector<Block> blocks_of(const Plan& plan, const DomainSets& domains, std::int64_t groups_per_block) {
  const auto num_groups = static_cast<std::int64_t>(plan.groups.size());
  const bool is_whole = groups_per_block == 0 || num_groups <= groups_per_block;
  const GroupSplitter splitter(plan);
  std::vector<Block> blocks(is_whole ? 1 : static_cast<std::size_t>(ceil_div(num_groups, groups_per_block)));
  std::vector<std::vector<std::int64_t>> contents(blocks.size());  // bundles and their bytes
  std::vector<std::int32_t> uses;
  for (std::size_t b = 0; b < plan.bundles.size(); ++b) {
    const Bundle& bundle = plan.bundles[b];
    if (bundle.size_bytes == 0) continue;
    const bool is_lacked = Audience(domains, bundle).num_lacking() > 0;
    uses.clear();
    for (const std::int32_t rank : plan.sets.ranks(bundle.destinations)) {
      if (!plan.sets.contains(bundle.sources, rank)) continue;
      plan.options.machine->append_uses(RankId(rank), RankId(rank), &uses);
    }
    if (!is_lacked && uses.empty()) continue;
    for (const Piece& piece :
         pieces_of(plan, static_cast<std::int32_t>(b), is_whole ? nullptr : &splitter, groups_per_block)) {
      const std::int64_t bytes = piece.range.end - piece.range.begin;
      Block& block = blocks[piece.block];
      if (is_lacked) block.demands.push_back({piece.range, {}});
      for (const std::int32_t resource : uses) block.base.push_back({resource, bytes});
      contents[piece.block].insert(contents[piece.block].end(), {static_cast<std::int64_t>(b), bytes});
    }
  }
  std::map<std::vector<std::int64_t>, std::int64_t> known;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    blocks[i].first_like = known.try_emplace(std::move(contents[i]), static_cast<std::int64_t>(i)).first->second;
  }
  return blocks;
}

}  // namespace reshard::routing
