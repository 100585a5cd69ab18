// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Where tensors of 8-bit floats are converted: at the source where every block lies whole there, else at the
// destination, else nowhere, with the border that is in the way.

#include "src/plan/conversions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "src/plan/replan.h"
#include "src/plan/report/report.h"
#include "src/plan/save.h"
#include "tests/unit/plan/layouts.h"

namespace reshard {
namespace {

using ::testing::HasSubstr;
using Place = Conversion::Place;
using Shape = std::vector<std::int64_t>;

/// A tensor's placement: replicas of shards, cut along dim 0.
struct Cut {
  std::int64_t replicas = 1;
  std::int64_t shards = 1;
};

/// A weight over ranks 0 to 3 at the source and 4 to 7 at the destination, quantised on one of the sides.
struct Pair {
  std::shared_ptr<ModelLayout> src = std::make_shared<ModelLayout>(8);
  std::shared_ptr<ModelLayout> dst = std::make_shared<ModelLayout>(8);

  static void quantise(ModelLayout* layout, ScaleKind kind) {
    ASSERT_TRUE(layout->set_scales(layout->find_tensor("w"), {kind, layout->find_tensor("s")}).ok());
  }
};

void add(ModelLayout* layout, std::int32_t first, const char* name, DType dtype, const Shape& shape, Cut cut) {
  testing::add_sharded(layout, {name, dtype, shape, 3}, first, cut.replicas, cut.shards);
}

/// To 8-bit floats in the destination, with scales of a kind that lie beside them.
Pair quantising(ScaleKind kind, const Shape& shape, Cut src, Cut dst, Cut dst_scales) {
  Pair pair;
  add(pair.src.get(), 0, "w", DType::kBF16, shape, src);
  add(pair.dst.get(), 4, "w", DType::kF8E4M3, shape, dst);
  add(pair.dst.get(), 4, "s", scale_dtype(kind), *scale_shape(kind, shape), dst_scales);
  Pair::quantise(pair.dst.get(), kind);
  return pair;
}

Result<Plan> plan_of(const Pair& pair, const PlanOptions& options = {}) {
  return create_plan(pair.src, pair.dst, options);
}

TEST(ConversionsTest, WholeBlocksAreQuantisedAtTheSource) {
  const Pair pair = quantising(ScaleKind::kBlock128, {512, 256}, {1, 4}, {2, 2}, {2, 2});
  const Result<Plan> plan = plan_of(pair);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  ASSERT_EQ(plan->conversions.size(), 1U);
  EXPECT_EQ(plan->conversions[0].place, Place::kSource);
  EXPECT_TRUE(plan->conversions[0].computes());
  ASSERT_EQ(plan->tensors.size(), 2U) << "the weight and its scales";
  EXPECT_EQ(plan->tensors[0].wire_bytes, 1);
  EXPECT_EQ(plan->tensors[1].wire_bytes, 4);
  EXPECT_TRUE(plan->only_at_destination.empty()) << "computed scales are not unmatched";
  const std::int64_t scales = plan->src->find_tensor("s");
  ASSERT_GE(scales, 0) << "they are a tensor of the source";
  EXPECT_EQ(to_string(plan->src->blocks(1, scales)[0].box), "[1:2, 0:2]");
}

TEST(ConversionsTest, TheWireIsAtMostHalfOfBF16AndALittle) {
  for (const ScaleKind kind : {ScaleKind::kBlock128, ScaleKind::kMxfp8}) {
    const Pair pair = quantising(kind, {1024, 7168}, {1, 4}, {1, 2}, {1, 2});
    const Plan plan = *plan_of(pair);
    const std::string json = report_json({plan, count_plan(plan)});
    const auto entry = nlohmann::json::parse(json).at("quantised").at(0);
    const auto bytes = entry.at("bytes_crossed").get<double>();
    EXPECT_EQ(bytes, static_cast<double>(count_plan(plan).bytes_crossed));
    EXPECT_EQ(entry.at("bytes_crossed_as_bf16"), 1024 * 7168 * 2);
    const double ratio = bytes / entry.at("bytes_crossed_as_bf16").get<double>();
    std::printf("bytes on the wire with scales %s: %.4f of BF16's\n", std::string(name(kind)).c_str(), ratio);
    EXPECT_LE(ratio, 0.52);
  }
}

TEST(ConversionsTest, ACutBlockIsQuantisedAtTheDestination) {
  const Pair pair = quantising(ScaleKind::kBlock128, {384, 100}, {1, 4}, {1, 3}, {1, 3});
  const Result<Plan> plan = plan_of(pair);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  const Conversion& conversion = plan->conversions.at(0);
  EXPECT_EQ(conversion.place, Place::kDestination);
  EXPECT_EQ(conversion.why, "at the source dimension 0 is cut at 96, inside a block of 128");
  ASSERT_EQ(plan->tensors.size(), 1U) << "scales are computed there";
  EXPECT_EQ(plan->tensors[0].dst, conversion.landing);
  EXPECT_EQ(plan->tensors[0].wire_bytes, 2);
  EXPECT_EQ(at(plan->dst->tensors(), conversion.landing).dtype, DType::kBF16);
  EXPECT_TRUE(plan->only_at_destination.empty());
  EXPECT_EQ(plan->num_given_dst_buffers(), 2);
  EXPECT_GT(std::ssize(plan->dst->buffers()), 2);
}

TEST(ConversionsTest, BlocksOf32AlongTheLastDimAreWholeWhateverRowsAreCut) {
  EXPECT_EQ(plan_of(quantising(ScaleKind::kMxfp8, {10, 70}, {1, 4}, {1, 3}, {1, 3}))->conversions.at(0).place,
            Place::kSource);
}

TEST(ConversionsTest, WhatIsCutOnBothSidesIsRefusedWithBothBorders) {
  const Status status = plan_of(quantising(ScaleKind::kBlock128, {384, 100}, {1, 4}, {1, 2}, {2, 1})).status();
  EXPECT_EQ(status.code(), RESHARD_ERR_LAYOUT_MISMATCH);
  EXPECT_THAT(
      status.message(),
      HasSubstr("tensor \"w\": no side can compute the scales block128: at the source dimension 0 is cut at 96, "
                "inside a block of 128, at the destination dimension 0 is cut at 192, inside a block of 128"));
}

TEST(ConversionsTest, ScalesOfWholeRowsMustBeGiven) {
  const Status status = plan_of(quantising(ScaleKind::kChannel, {8, 100}, {1, 4}, {1, 2}, {1, 2})).status();
  EXPECT_EQ(status.code(), RESHARD_ERR_LAYOUT_MISMATCH);
  EXPECT_THAT(status.message(), HasSubstr("give them as tensor \"s\" at the source"));
}

TEST(ConversionsTest, GivenScalesAreUsedWhereTheyLieBesideTheirElements) {
  Pair pair = quantising(ScaleKind::kChannel, {8, 100}, {1, 4}, {1, 2}, {1, 2});
  add(pair.src.get(), 0, "s", DType::kF32, {8}, {1, 4});
  const Result<Plan> plan = plan_of(pair);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  EXPECT_EQ(plan->conversions.at(0).place, Place::kSource);
  EXPECT_TRUE(plan->conversions.at(0).has_given_scales);
  EXPECT_EQ(plan->src->tensors().size(), 2U) << "nothing is added at the source";

  Pair apart = quantising(ScaleKind::kChannel, {8, 100}, {1, 4}, {1, 2}, {1, 2});
  add(apart.src.get(), 0, "s", DType::kF32, {8}, {1, 1});
  const Result<Plan> other = plan_of(apart);
  ASSERT_TRUE(other.ok()) << other.status().message();
  EXPECT_EQ(other->conversions.at(0).place, Place::kDestination);
  EXPECT_EQ(other->conversions.at(0).why, "a rank of the source holds elements [2:4, 0:100] without their scales");
  EXPECT_EQ(other->tensors.size(), 2U) << "the scales travel";
}

TEST(ConversionsTest, GivenScalesThatAreNowhereBesideTheirElementsAreRefused) {
  Pair pair = quantising(ScaleKind::kChannel, {8, 100}, {1, 4}, {1, 4}, {1, 2});
  add(pair.src.get(), 0, "s", DType::kF32, {8}, {1, 1});
  const Status status = plan_of(pair).status();
  EXPECT_EQ(status.code(), RESHARD_ERR_LAYOUT_MISMATCH);
  EXPECT_THAT(status.message(),
              HasSubstr("no side can quantise: a rank of the source holds elements [2:4, 0:100] without "
                        "their scales in \"s\", and a rank of the destination elements"));
}

TEST(ConversionsTest, GivenScalesOfAnotherShapeOrDTypeAreNamed) {
  Pair pair = quantising(ScaleKind::kChannel, {8, 100}, {1, 4}, {1, 2}, {1, 2});
  add(pair.src.get(), 0, "s", DType::kBF16, {8}, {1, 4});
  EXPECT_THAT(plan_of(pair).status().message(),
              HasSubstr("its scales \"s\" are BF16 [8] at the source and F32 [8] at the destination"));
}

TEST(ConversionsTest, ScalesWithoutTheirElementsCannotBeComputedThere) {
  const Status status = plan_of(quantising(ScaleKind::kBlock128, {384, 100}, {1, 4}, {1, 3}, {3, 1})).status();
  EXPECT_EQ(status.code(), RESHARD_ERR_LAYOUT_MISMATCH);
  EXPECT_THAT(status.message(),
              HasSubstr("a rank of the destination holds the scales [0:3, 0:1] in \"s\" without their "
                        "elements"));
}

TEST(ConversionsTest, EightBitFloatsAreDequantisedAtTheDestination) {
  Pair pair;
  add(pair.src.get(), 0, "w", DType::kF8E4M3, {300, 100}, {1, 4});
  add(pair.src.get(), 0, "s", DType::kF32, {3, 1}, {1, 1});
  Pair::quantise(pair.src.get(), ScaleKind::kBlock128);
  add(pair.dst.get(), 4, "w", DType::kBF16, {300, 100}, {1, 2});
  const Result<Plan> plan = plan_of(pair);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  EXPECT_EQ(plan->conversions.at(0).place, Place::kDestination);
  EXPECT_FALSE(plan->conversions.at(0).is_quantising);
  EXPECT_TRUE(plan->only_at_source.empty()) << "scales that a conversion takes are not unmatched";
  ASSERT_EQ(plan->tensors.size(), 2U);
  EXPECT_EQ(plan->tensors[0].wire_bytes, 1);
  EXPECT_EQ(plan->groups, std::vector<std::int64_t>{3});
}

TEST(ConversionsTest, EightBitFloatsThatOnlyMoveKeepTheirScales) {
  Pair pair = quantising(ScaleKind::kBlock128, {256, 128}, {1, 2}, {1, 2}, {1, 2});
  Pair moved;
  moved.src = pair.dst;
  moved.dst = pair.dst;
  const Result<Plan> plan = plan_of(moved);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  EXPECT_TRUE(plan->conversions.empty());
  EXPECT_EQ(plan->src, moved.src) << "the caller's own layouts";
}

TEST(ConversionsTest, OtherScalesThanTheSourcesAreRefused) {
  Pair pair = quantising(ScaleKind::kBlock128, {128, 128}, {1, 1}, {1, 1}, {1, 1});
  auto src = std::make_shared<ModelLayout>(8);
  add(src.get(), 0, "w", DType::kF8E4M3, {128, 128}, {1, 1});
  add(src.get(), 0, "s", DType::kF32, {128}, {1, 1});
  Pair::quantise(src.get(), ScaleKind::kChannel);
  pair.src = src;
  EXPECT_THAT(plan_of(pair).status().message(), HasSubstr("has scales channel in \"s\" at the source and block128"));
}

TEST(ConversionsTest, DTypesThatDoNotConvertAreNamed) {
  Pair pair = quantising(ScaleKind::kBlock128, {128, 128}, {1, 1}, {1, 1}, {1, 1});
  auto src = std::make_shared<ModelLayout>(8);
  add(src.get(), 0, "w", DType::kF16, {128, 128}, {1, 1});
  pair.src = src;
  EXPECT_THAT(plan_of(pair).status().message(), HasSubstr("is F16 at the source and F8_E4M3 at the destination"));

  Pair bare;
  add(bare.src.get(), 0, "w", DType::kBF16, {128, 128}, {1, 1});
  add(bare.dst.get(), 4, "w", DType::kF8E4M3, {128, 128}, {1, 1});
  EXPECT_THAT(plan_of(bare).status().message(), HasSubstr("and F8_E4M3 where its layout says its scales"));
}

TEST(ConversionsTest, PlansThatConvertAreSavedForTheCallersLayouts) {
  for (const Cut src : {Cut{1, 1}, Cut{1, 4}}) {
    const Pair pair = quantising(ScaleKind::kBlock128, {384, 100}, src, {1, 3}, {1, 3});
    const Plan plan = *plan_of(pair);
    const Result<Plan> loaded = load_plan(save_plan(plan), pair.src, pair.dst, nullptr);
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    EXPECT_EQ(loaded->hash, plan.hash);
    EXPECT_EQ(loaded->conversions.size(), 1U);
  }
}

TEST(ConversionsTest, AReplicaThatIsLostLeavesTheOthersWays) {
  const Pair pair = quantising(ScaleKind::kBlock128, {512, 256}, {1, 4}, {2, 2}, {2, 2});
  const Plan plan = *plan_of(pair);
  auto smaller = std::make_shared<ModelLayout>(*pair.dst);
  ASSERT_TRUE(smaller->remove_ranks({6, 7}).ok());
  Changes changes;
  const Result<Plan> again = replan(plan, pair.src, smaller, &changes);
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(again->conversions.at(0).place, Place::kSource);
  EXPECT_EQ(changes.bytes_changed, 0);
  EXPECT_GT(changes.bytes, 0);
}

TEST(ConversionsTest, LikeTensorsAreReportedTogether) {
  Pair pair;
  for (const char* layer : {"layers.0.w", "layers.1.w"}) {
    add(pair.src.get(), 0, layer, DType::kBF16, {256, 128}, {1, 2});
    add(pair.dst.get(), 4, layer, DType::kF8E4M3, {256, 128}, {1, 1});
    const std::string scales = std::string(layer) + "_scale";
    add(pair.dst.get(), 4, scales.c_str(), DType::kF32, {2, 1}, {1, 1});
    ASSERT_TRUE(
        pair.dst->set_scales(pair.dst->find_tensor(layer), {ScaleKind::kBlock128, pair.dst->find_tensor(scales)}).ok());
  }
  const Plan plan = *plan_of(pair);
  const auto entries = nlohmann::json::parse(report_json({plan, count_plan(plan)})).at("quantised");
  ASSERT_EQ(entries.size(), 1U);
  EXPECT_EQ(entries[0].at("pattern"), "layers.*.w");
  EXPECT_EQ(entries[0].at("tensors"), 2);
  EXPECT_EQ(entries[0].at("bytes_crossed"), 2 * (256 * 128 + 2 * 4));
}

}  // namespace
}  // namespace reshard
