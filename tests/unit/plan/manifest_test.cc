// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "src/plan/manifest.h"
#include "tests/unit/plan/fleet.h"

namespace reshard {
namespace {

using Elements = std::vector<int>;  // by flat index: how often

/// Adds the elements of a block, one by one: shares nothing with how the plan came to its boxes.
void add_elements(const Tensor& tensor, const Block& block, Elements* elements) {
  elements->resize(static_cast<std::size_t>(*checked_num_elements(tensor.shape)));
  testing::for_each_element(
      block, [&](const Dims& index, std::int64_t) { ++at(*elements, testing::flat_index(tensor.shape, index)); });
}

/// What the ranks hold of the tensors of a side, looked up once each.
class Holdings {
 public:
  explicit Holdings(const ModelLayout& layout) : layout_(layout) {}
  const Elements& of(std::int64_t tensor, std::int32_t rank) {
    const auto [entry, is_new] = known_.try_emplace({tensor, rank});
    if (!is_new) return entry->second;
    const Tensor& described = at(layout_.tensors(), tensor);
    entry->second.resize(static_cast<std::size_t>(*checked_num_elements(described.shape)));
    for (const Block& block : layout_.blocks(rank, tensor)) {
      if (block.kind == BlockKind::kData) add_elements(described, block, &entry->second);
    }
    return entry->second;
  }

 private:
  const ModelLayout& layout_;
  std::map<std::pair<std::int64_t, std::int32_t>, Elements> known_;
};

/// The pieces bring each element that the rank has exactly once, from ranks that hold it; and the bytes add up.
void check_tensor(const Plan& plan, std::int32_t rank, const ManifestTensor& entry, Holdings* src, Holdings* dst) {
  const Tensor& tensor = at(plan.dst->tensors(), entry.tensor);
  const Elements& wanted = dst->of(entry.tensor, rank);
  Elements brought(wanted.size());
  for (const ManifestPiece& piece : entry.pieces) {
    RC_ASSERT(at(plan.src->tensors(), piece.source).name == tensor.name);
    RC_ASSERT(piece.source_rank != rank || piece.from_rank == rank);
    Block block;
    block.box = piece.box;
    Elements of_piece;
    add_elements(tensor, block, &of_piece);
    const Elements& held = src->of(piece.source, piece.source_rank);
    for (std::size_t i = 0; i < of_piece.size(); ++i) {
      RC_ASSERT(of_piece[i] == 0 || held[i] > 0);
      brought[i] += of_piece[i];
    }
  }
  std::int64_t written = 0, num_elements = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    RC_ASSERT(brought[i] == (wanted[i] > 0 ? 1 : 0));
    written += wanted[i] * size_bytes(tensor.dtype);
    num_elements += wanted[i] > 0 ? 1 : 0;
  }
  RC_ASSERT(entry.written_bytes == written);
  RC_ASSERT(entry.num_elements == num_elements);
  RC_ASSERT(at(plan.groups, entry.group) == tensor.group);
}

RC_GTEST_PROP(ManifestTest, PiecesAreWhatTheRankHasAndNoMore, ()) {
  const std::vector<std::uint32_t> numbers = testing::random_numbers();
  testing::Choices choices(numbers);
  const auto num_ranks = static_cast<std::int32_t>(1 + choices.pick(8));
  PlanOptions options = testing::random_options(&choices, num_ranks);
  if (choices.pick(2) == 0) options.machine = nullptr;
  const testing::Scenario scenario =
      choices.pick(2) == 0 ? testing::make_fleet(&choices, num_ranks) : testing::make_scenario(&choices, num_ranks);
  const Result<Plan> plan = create_plan(scenario.src, scenario.dst, options);
  if (!plan.ok()) return;  // no such network
  Holdings src(*plan->src), dst(*plan->dst);
  for (std::int32_t rank = 0; rank < num_ranks; ++rank) {
    std::set<std::int64_t> listed;
    for (const ManifestTensor& entry : make_manifest(*plan, rank)) {
      check_tensor(*plan, rank, entry, &src, &dst);
      listed.insert(entry.tensor);
    }
    for (std::size_t t = 0; t < plan->dst->tensors().size(); ++t) {
      const auto tensor = static_cast<std::int64_t>(t);
      const Elements& held = dst.of(tensor, rank);
      if (std::any_of(held.begin(), held.end(), [](int count) { return count > 0; })) {
        RC_ASSERT(listed.count(tensor) == 1u);
      }
    }
  }
}

}  // namespace
}  // namespace reshard
