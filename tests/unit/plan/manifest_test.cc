// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <map>
#include <set>

#include "src/plan/manifest.h"
#include "tests/unit/plan/fleet.h"

namespace reshard {
namespace {

using Elements = std::map<std::int64_t, int>;  // flat index: how often

/// Element by element: shares nothing with how the plan came to its boxes.
Elements elements_of(const ModelLayout& layout, std::int64_t tensor, std::int32_t rank) {
  Elements elements;
  for (const Block& block : layout.blocks(rank, tensor)) {
    if (block.kind != BlockKind::kData) continue;
    testing::for_each_element(block, [&](const Dims& index, std::int64_t) {
      ++elements[testing::flat_index(at(layout.tensors(), tensor).shape, index)];
    });
  }
  return elements;
}

Elements elements_of(const ManifestPiece& piece, const Tensor& tensor) {
  Block block;
  block.box = piece.box;
  Elements elements;
  testing::for_each_element(
      block, [&](const Dims& index, std::int64_t) { ++elements[testing::flat_index(tensor.shape, index)]; });
  return elements;
}

/// The pieces bring each element that the rank has exactly once, from ranks that hold it; and the bytes add up.
void check_tensor(const Plan& plan, std::int32_t rank, const ManifestTensor& entry) {
  const Tensor& tensor = at(plan.dst->tensors(), entry.tensor);
  const Elements wanted = elements_of(*plan.dst, entry.tensor, rank);
  Elements brought;
  for (const ManifestPiece& piece : entry.pieces) {
    RC_ASSERT(at(plan.src->tensors(), piece.source).name == tensor.name);
    const Elements held = elements_of(*plan.src, piece.source, piece.source_rank);
    RC_ASSERT(piece.source_rank != rank || piece.from_rank == rank);
    for (const auto& [element, count] : elements_of(piece, tensor)) {
      RC_ASSERT(held.count(element) == 1u);
      brought[element] += count;
    }
  }
  std::int64_t written = 0;
  for (const auto& [element, count] : wanted) written += count * size_bytes(tensor.dtype);
  RC_ASSERT(entry.written_bytes == written);
  RC_ASSERT(entry.num_elements == static_cast<std::int64_t>(wanted.size()));
  RC_ASSERT(brought.size() == wanted.size());
  for (const auto& [element, count] : brought) RC_ASSERT(count == 1 && wanted.count(element) == 1u);
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
  for (std::int32_t rank = 0; rank < num_ranks; ++rank) {
    std::set<std::int64_t> listed;
    for (const ManifestTensor& entry : make_manifest(*plan, rank)) {
      check_tensor(*plan, rank, entry);
      listed.insert(entry.tensor);
    }
    for (std::size_t t = 0; t < plan->dst->tensors().size(); ++t) {
      const auto tensor = static_cast<std::int64_t>(t);
      if (!elements_of(*plan->dst, tensor, rank).empty()) RC_ASSERT(listed.count(tensor) == 1u);
    }
  }
}

}  // namespace
}  // namespace reshard
