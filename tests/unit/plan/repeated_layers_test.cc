// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <map>
#include <set>
#include <string>
#include <tuple>

#include "src/plan/windows.h"
#include "tests/unit/plan/layouts.h"
#include "tests/unit/scenario/scenario.h"

// Models whose layers are placed alike, so that thousands of bundles are composed alike.

namespace reshard {
namespace {

using testing::Choices;
using testing::flat_index;

/// How one side cuts a matrix: this dimension, by this rule, over this axis of the side's mesh.
struct SideCut {
  int dim = 0;
  Rule rule = Rule::kChunk;
  std::int64_t block = 1;  // of Rule::kCyclic
  int axis = 1;
};

/// A matrix that every layer has.
struct Kind {
  std::vector<std::int64_t> shape;
  DType src_dtype = DType::kBF16;
  DType dst_dtype = DType::kBF16;
  SideCut src, dst;
};

/// One side: layers of the same matrices on one mesh of (replica, outer, inner). Maps are shared between the layers, as
/// those that read a model's layout do it.
class Side {
 public:
  Side(std::int32_t num_ranks, std::int32_t first, const std::vector<std::int64_t>& extents)
      : layout_(std::make_shared<ModelLayout>(num_ranks)) {
    std::vector<std::int32_t> ranks(static_cast<std::size_t>(extents[0] * extents[1] * extents[2]));
    std::iota(ranks.begin(), ranks.end(), first);
    mesh_ = *Mesh::create({{"replica", extents[0]}, {"outer", extents[1]}, {"inner", extents[2]}}, ranks);
  }

  DimMapPtr map_of(const std::vector<std::int64_t>& shape, const SideCut& cut) const {
    Split split;
    split.rule = cut.rule;
    split.block = cut.block;
    split.num_parts = at(mesh_->axes(), cut.axis).size;
    return std::make_shared<const DimMap>(*make_dim_map(at(shape, cut.dim), {split}));
  }

  void add(const Tensor& tensor, const SideCut& cut, const DimMapPtr& map) {
    Placement placement;
    placement.mesh = mesh_;
    placement.dims.resize(tensor.shape.size());
    at(placement.dims, cut.dim) = {map, {cut.axis}};
    placement.buffer = layout_->add_buffer(tensor.name, tensor.dtype);
    const std::int64_t id = *layout_->add_tensor(tensor);
    ASSERT_TRUE(layout_->place(id, placement).ok());
  }

  std::shared_ptr<const ModelLayout> layout() const { return layout_; }

 private:
  std::shared_ptr<ModelLayout> layout_;
  MeshPtr mesh_;
};

/// `has(layer, kind)` says which layers have which matrices.
template <typename Has>
Result<Plan> plan_layers(std::int64_t num_layers, const std::vector<Kind>& kinds, Side src, Side dst, const Has& has) {
  std::vector<DimMapPtr> src_maps, dst_maps;
  for (const Kind& kind : kinds) {
    src_maps.push_back(src.map_of(kind.shape, kind.src));
    dst_maps.push_back(dst.map_of(kind.shape, kind.dst));
  }
  for (std::int64_t layer = 0; layer < num_layers; ++layer) {
    for (std::size_t k = 0; k < kinds.size(); ++k) {
      if (!has(layer, k)) continue;
      const Kind& kind = kinds[k];
      const std::string name = "layers." + std::to_string(layer) + "." + std::to_string(k);
      src.add({name, kind.src_dtype, kind.shape, layer}, kind.src, src_maps[k]);
      dst.add({name, kind.dst_dtype, kind.shape, layer}, kind.dst, dst_maps[k]);
    }
  }
  return create_plan(src.layout(), dst.layout(), {});
}

SideCut random_cut(Choices* choices) {
  return {static_cast<int>(choices->pick(2)), choices->pick(3) == 1 ? Rule::kCyclic : Rule::kChunk,
          1 + choices->pick(3), static_cast<int>(1 + choices->pick(2))};
}

Result<Plan> random_layers(Choices* choices) {
  const auto extent = [&] { return 1 + choices->pick(4); };
  const std::vector<std::int64_t> src_extents = {1 + choices->pick(2), extent(), extent()};
  const std::vector<std::int64_t> dst_extents = {1 + choices->pick(3), extent(), extent()};
  const auto first = static_cast<std::int32_t>(choices->pick(4));  // of the destination: the sides may overlap
  const std::int32_t num_ranks = 4 + 48;
  constexpr std::array<DType, 3> kDTypes = {DType::kBF16, DType::kF32, DType::kF16};
  std::vector<Kind> kinds(static_cast<std::size_t>(1 + choices->pick(3)));
  for (Kind& kind : kinds) {
    kind.shape = {1 + choices->pick(9), 1 + choices->pick(9)};
    if (choices->pick(2) == 1) kind.shape.push_back(1 + choices->pick(3));
    kind.src_dtype = kDTypes[static_cast<std::size_t>(choices->pick(3))];
    kind.dst_dtype = kDTypes[static_cast<std::size_t>(choices->pick(3))];
    kind.src = random_cut(choices);
    kind.dst = random_cut(choices);
  }
  return plan_layers(1 + choices->pick(4), kinds, Side(num_ranks, 0, src_extents), Side(num_ranks, first, dst_extents),
                     [&](std::int64_t, std::size_t) { return choices->pick(5) != 4; });
}

using Ranks = std::vector<std::int32_t>;

/// Who has each element, ranks ascending, straight from the blocks of every rank.
std::map<std::int64_t, Ranks> holders(const ModelLayout& layout, std::int64_t tensor) {
  std::map<std::int64_t, std::set<std::int32_t>> found;
  for (std::int32_t rank = 0; rank < layout.num_ranks(); ++rank) {
    for (const Block& block : layout.blocks(rank, tensor)) {
      if (block.kind != BlockKind::kData) continue;
      testing::for_each_element(block, [&](const Dims& index, std::int64_t) {
        found[flat_index(at(layout.tensors(), tensor).shape, index)].insert(rank);
      });
    }
  }
  std::map<std::int64_t, Ranks> out;
  for (const auto& [element, ranks] : found) out[element] = Ranks(ranks.begin(), ranks.end());
  return out;
}

/// (tensor in plan order, element): one place of a stream.
using Item = std::pair<std::int64_t, std::int64_t>;

std::vector<Item> items_of(const Plan& plan, const std::vector<Fragment>& fragments) {
  std::vector<Item> out;
  for (const Fragment& fragment : fragments) {
    Block whole;
    whole.box = fragment.atom->box;
    std::vector<std::int64_t> elements;
    testing::for_each_element(whole, [&](const Dims& index, std::int64_t) {
      elements.push_back(flat_index(
          plan.dst->tensors()[static_cast<std::size_t>(plan.tensors[static_cast<std::size_t>(fragment.tensor)].dst)]
              .shape,
          index));
    });
    for (std::int64_t i = fragment.begin; i < fragment.end; ++i) out.emplace_back(fragment.tensor, at(elements, i));
  }
  return out;
}

RC_GTEST_PROP(RepeatedLayersTest, EveryElementIsInTheStreamOfItsHoldersOnce,
              (const std::vector<std::uint32_t>& numbers)) {
  Choices choices(numbers);
  const Result<Plan> made = random_layers(&choices);
  RC_ASSERT(made.ok());
  const Plan& plan = *made;
  std::map<std::tuple<Ranks, Ranks>, std::set<Item>> wanted;
  for (std::size_t t = 0; t < plan.tensors.size(); ++t) {
    const auto sources = holders(*plan.src, plan.tensors[t].src);
    for (const auto& [element, destinations] : holders(*plan.dst, plan.tensors[t].dst)) {
      wanted[{sources.at(element), destinations}].insert({static_cast<std::int64_t>(t), element});
    }
  }
  RC_ASSERT(plan.bundles.size() == wanted.size());
  for (std::size_t b = 0; b < plan.bundles.size(); ++b) {
    const Bundle& bundle = plan.bundles[b];
    const auto found = wanted.find({plan.sets.ranks(bundle.sources), plan.sets.ranks(bundle.destinations)});
    RC_ASSERT(found != wanted.end());
    const std::vector<Item> items =
        items_of(plan, fragments_of(plan, static_cast<std::int32_t>(b), 0, bundle.size_bytes));
    RC_ASSERT(items.size() == found->second.size());
    RC_ASSERT((std::set<Item>(items.begin(), items.end()) == found->second));
    const bool is_in_plan_order =
        std::is_sorted(items.begin(), items.end(), [](const Item& a, const Item& c) { return a.first < c.first; });
    RC_ASSERT(is_in_plan_order);
  }
}

RC_GTEST_PROP(RepeatedLayersTest, APartOfAStreamIsThatPartOfTheWhole, (const std::vector<std::uint32_t>& numbers)) {
  Choices choices(numbers);
  const Result<Plan> made = random_layers(&choices);
  RC_ASSERT(made.ok());
  const Plan& plan = *made;
  for (std::size_t b = 0; b < plan.bundles.size(); ++b) {
    const auto id = static_cast<std::int32_t>(b);
    const std::vector<Item> whole = items_of(plan, fragments_of(plan, id, 0, plan.bundles[b].size_bytes));
    std::vector<std::int64_t> starts = {0};  // of each element, in wire bytes
    for (const Item& item : whole) starts.push_back(starts.back() + at(plan.tensors, item.first).wire_bytes);
    RC_ASSERT(starts.back() == plan.bundles[b].size_bytes);
    const std::int64_t first = choices.pick(static_cast<std::int64_t>(whole.size()));
    const std::int64_t last = first + choices.pick(static_cast<std::int64_t>(whole.size()) - first);
    const std::vector<Item> part = items_of(plan, fragments_of(plan, id, at(starts, first), at(starts, last + 1)));
    RC_ASSERT((part == std::vector<Item>(whole.begin() + first, whole.begin() + last + 1)));
  }
}

/// What a plan stores of the content of its bundles.
struct Stored {
  std::size_t atoms = 0;
  std::size_t runs = 0;  // pairs of a bundle and a class of tensors
  std::size_t patterns = 0;
  std::size_t entries = 0;  // of all patterns
};

Stored stored(const Plan& plan) {
  Stored out{0, plan.runs.size(), plan.patterns.size(), 0};
  for (const AtomClass& atoms : plan.classes) out.atoms += atoms.atoms.size();
  for (const StrandPattern& pattern : plan.patterns) out.entries += pattern.entries.size();
  return out;
}

constexpr std::int64_t kShards = 64;

/// Every shard to every server rank, small: stacked experts cut along rows of each, matrices cut across, some unevenly.
Result<Plan> plan_fsdp(std::int64_t num_layers, const SideCut& experts) {
  const SideCut rows = {0, Rule::kChunk, 1, 2};
  const SideCut rows_of_experts = {1, Rule::kChunk, 1, 2};
  const std::vector<Kind> kinds = {{{16, 60, 8}, DType::kBF16, DType::kBF16, rows_of_experts, experts},
                                   {{16, 130, 8}, DType::kBF16, DType::kBF16, rows_of_experts, experts},
                                   {{128, 64}, DType::kBF16, DType::kBF16, rows, {1, Rule::kChunk, 1, 2}},
                                   {{256, 32}, DType::kBF16, DType::kBF16, rows, {0, Rule::kChunk, 1, 2}}};
  const auto num_ranks = static_cast<std::int32_t>(kShards + 4 * 2 * 8);
  return plan_layers(num_layers, kinds, Side(num_ranks, 0, {1, 1, kShards}),
                     Side(num_ranks, static_cast<std::int32_t>(kShards), {4, 2, 8}),
                     [](std::int64_t, std::size_t) { return true; });
}

class FsdpTest : public ::testing::TestWithParam<SideCut> {};

TEST_P(FsdpTest, StoresOneAtomForABundleAndAClassAndNothingForALayer) {
  constexpr std::int64_t kLayers = 24;
  const Result<Plan> one = plan_fsdp(1, GetParam());
  const Result<Plan> many = plan_fsdp(kLayers, GetParam());
  ASSERT_TRUE(one.ok() && many.ok());
  const Stored few = stored(*one);
  const Stored all = stored(*many);
  EXPECT_EQ(many->num_atoms(), kLayers * one->num_atoms());
  EXPECT_GE(many->bundles.size(), static_cast<std::size_t>(kShards * 8));  // every pair of a shard and a part
  EXPECT_EQ(all.atoms, few.atoms);
  EXPECT_EQ(all.runs, few.runs);
  EXPECT_EQ(all.patterns, few.patterns);
  EXPECT_LE(all.atoms, all.runs * 2);
  EXPECT_LE(all.patterns, 24U);
  EXPECT_LE(all.entries, all.patterns * many->tensors.size());
}

INSTANTIATE_TEST_SUITE_P(Experts, FsdpTest,
                         ::testing::Values(SideCut{0, Rule::kChunk, 1, 1},    // whole experts dealt out
                                           SideCut{1, Rule::kChunk, 1, 2},    // the rows of each
                                           SideCut{2, Rule::kChunk, 1, 2}));  // the columns of each

}  // namespace
}  // namespace reshard
