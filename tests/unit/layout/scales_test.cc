// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Scales of tensors of 8-bit floats: what may be said of them, what is refused and in which words, and that layouts
// keep it: in bytes, digests, merged and for people.

#include "src/layout/scales.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/layout/layout.h"
#include "src/layout/merge.h"
#include "src/layout/rank_text.h"
#include "src/layout/serialize.h"

namespace reshard {
namespace {

using Shape = std::vector<std::int64_t>;
using ::testing::HasSubstr;

TEST(ScalesTest, ShapesFollowFromTheBlocks) {
  EXPECT_EQ(*scale_shape(ScaleKind::kBlock128, {7168, 2112}), (Shape{56, 17}));
  EXPECT_EQ(*scale_shape(ScaleKind::kBlock128, {256, 129, 1}), (Shape{256, 2, 1}));
  EXPECT_EQ(*scale_shape(ScaleKind::kMxfp8, {3, 33}), (Shape{3, 2}));
  EXPECT_EQ(*scale_shape(ScaleKind::kMxfp8, {64}), (Shape{2}));
  EXPECT_EQ(*scale_shape(ScaleKind::kChannel, {5, 7}), (Shape{5}));
  EXPECT_EQ(*scale_shape(ScaleKind::kTensor, {5, 7}), Shape{});
  EXPECT_EQ(*scale_shape(ScaleKind::kTensor, {8, 5, 7}), (Shape{8}));
}

TEST(ScalesTest, KindsThatATensorIsTooSmallForAreRefused) {
  EXPECT_THAT(scale_shape(ScaleKind::kBlock128, {7}).status().message(), HasSubstr("tensors of 2 dims or more"));
  EXPECT_THAT(scale_shape(ScaleKind::kChannel, {7}).status().message(), HasSubstr("tensors of 2 dims or more"));
  EXPECT_THAT(scale_shape(ScaleKind::kMxfp8, {}).status().message(), HasSubstr("tensors of 1 dims or more"));
}

TEST(ScalesTest, AnotherShapeIsRefusedWithTheRightOne) {
  EXPECT_THAT(make_scale_grid(ScaleKind::kBlock128, {256, 130}, {2, 1}).status().message(),
              HasSubstr("have the shape [2, 2], not [2, 1]"));
  EXPECT_THAT(make_scale_grid(ScaleKind::kChannel, {4, 6}, {6}).status().message(),
              HasSubstr("have the shape [4] or [4, 1], not [6]"));
  EXPECT_TRUE(make_scale_grid(ScaleKind::kTensor, {4, 6}, {1}).ok());
  EXPECT_TRUE(make_scale_grid(ScaleKind::kTensor, {3, 4, 6}, {}).ok());
}

TEST(ScalesTest, NamesAreReadBack) {
  for (const ScaleKind kind : {ScaleKind::kBlock128, ScaleKind::kMxfp8, ScaleKind::kChannel, ScaleKind::kTensor}) {
    EXPECT_EQ(*parse_scale_kind(name(kind)), kind);
  }
  EXPECT_THAT(parse_scale_kind("block").status().message(),
              HasSubstr("unknown kind of scales \"block\"; known are block128, mxfp8, channel, tensor"));
}

/// Every element's scale, by the definition of the kinds, against the boxes.
TEST(ScalesTest, BoxesOfScalesAreThoseOfTheirElements) {
  const Shape shape = {2, 130, 70};
  for (const ScaleKind kind : {ScaleKind::kBlock128, ScaleKind::kMxfp8, ScaleKind::kChannel, ScaleKind::kTensor}) {
    const ScaleGrid grid = *make_scale_grid(kind, shape, *scale_shape(kind, shape));
    for (std::int64_t i = 0; i < 130; i += 43) {
      for (std::int64_t j = 0; j < 70; j += 23) {
        Box element;
        element.num_dims = 3;
        for (int d = 0; d < 3; ++d) element.begin[d] = d == 0 ? 1 : d == 1 ? i : j;
        for (int d = 0; d < 3; ++d) element.end[d] = element.begin[d] + 1;
        const Box scales = grid.scales_of(element);
        Shape place(scales.begin.values, scales.begin.values + scales.num_dims);
        Shape wanted = {1};
        if (kind == ScaleKind::kBlock128) wanted = {1, i / 128, j / 128};
        if (kind == ScaleKind::kMxfp8) wanted = {1, i, j / 32};
        if (kind == ScaleKind::kChannel) wanted = {1, i};
        EXPECT_EQ(place, wanted) << name(kind);
        EXPECT_EQ(scales.num_elements(), 1);
        const Box back = grid.elements_of(scales);
        EXPECT_EQ(intersect(back, element), element);
        EXPECT_LE(back.end[1], 130);
        EXPECT_LE(back.end[2], 70);
      }
    }
  }
}

/// A weight of 256 x 130 with scales of its own, and a second one without.
ModelLayout quantised() {
  ModelLayout layout(2);
  EXPECT_EQ(*layout.add_tensor({"w", DType::kF8E4M3, {256, 130}, 1}), 0);
  EXPECT_EQ(*layout.add_tensor({"w_scale_inv", DType::kF32, {2, 2}, 1}), 1);
  EXPECT_EQ(*layout.add_tensor({"v", DType::kF8E4M3, {256, 130}, 1}), 2);
  EXPECT_EQ(*layout.add_tensor({"bf16", DType::kBF16, {256, 130}, 1}), 3);
  EXPECT_EQ(*layout.add_tensor({"late", DType::kF32, {2, 2}, 2}), 4);
  EXPECT_TRUE(layout.set_scales(0, {ScaleKind::kBlock128, 1}).ok());
  return layout;
}

std::string refusal(std::int64_t tensor, const Scales& scales) {
  ModelLayout layout = quantised();
  const std::uint64_t before = layout.digest();
  const std::string message = layout.set_scales(tensor, scales).message();
  EXPECT_EQ(layout.digest(), before) << "a refused call has changed the layout";
  return message;
}

TEST(ScalesTest, WhatDoesNotFitIsRefusedByName) {
  EXPECT_THAT(refusal(9, {ScaleKind::kBlock128, 1}), HasSubstr("tensor 9 does not exist; there are 5"));
  EXPECT_THAT(refusal(0, {ScaleKind::kBlock128, -1}), HasSubstr("tensor -1 does not exist"));
  EXPECT_THAT(refusal(0, {ScaleKind::kNone, 1}), HasSubstr("scales of tensor \"w\": the unknown kind 0"));
  EXPECT_THAT(refusal(3, {ScaleKind::kBlock128, 1}),
              HasSubstr("scales of tensor \"bf16\": the tensor is BF16; scales belong to F8_E4M3"));
  EXPECT_THAT(refusal(0, {ScaleKind::kMxfp8, 1}), HasSubstr("\"w_scale_inv\" is F32; scales mxfp8 are F8_E8M0"));
  EXPECT_THAT(refusal(2, {ScaleKind::kBlock128, 1}), HasSubstr("\"w_scale_inv\" has the scales of tensor \"w\""));
  EXPECT_THAT(refusal(2, {ScaleKind::kBlock128, 4}), HasSubstr("\"late\" is in group 2, and the tensor in group 1"));
  EXPECT_THAT(refusal(0, {ScaleKind::kChannel, 1}), HasSubstr("have the shape [256] or [256, 1], not [2, 2]"));
}

TEST(ScalesTest, ScalesMakeAnotherDigest) {
  ModelLayout without(2);
  const ModelLayout with = quantised();
  for (const Tensor& tensor : with.tensors()) EXPECT_TRUE(without.add_tensor(tensor).ok());
  EXPECT_NE(without.digest(), with.digest());
  EXPECT_TRUE(without.set_scales(2, {ScaleKind::kBlock128, 1}).ok());
  EXPECT_NE(without.digest(), with.digest());
}

TEST(ScalesTest, LayoutsWithScalesComeBackFromTheirBytes) {
  const Result<ModelLayout> read = deserialize(serialize(quantised()));
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->digest(), quantised().digest());
  EXPECT_EQ(read->scales(0), (Scales{ScaleKind::kBlock128, 1}));
  EXPECT_EQ(read->scales(2), Scales{});
}

TEST(ScalesTest, LayoutsWithoutScalesAreWrittenAsBefore) {
  EXPECT_EQ(std::to_integer<int>(serialize(ModelLayout(2))[8]), 2) << "version 1, as a packed number";
  EXPECT_EQ(std::to_integer<int>(serialize(quantised())[8]), 4) << "version 2";
}

/// What `rank` knows of a quantised weight.
ModelLayout own_part(std::int32_t rank, ScaleKind kind) {
  ModelLayout local(2);
  const std::int64_t weight = *local.add_tensor({"w", DType::kF8E4M3, {4, 4}, 0});
  const std::int64_t scales = *local.add_tensor({"s", DType::kF32, {1, 1}, 0});
  const std::int64_t buffer = *local.add_rank_buffer(rank, "all", 20);
  EXPECT_TRUE(local.add_flat_range(rank, weight, rank * 8, rank * 8 + 8, buffer, 0).ok());
  EXPECT_TRUE(local.add_flat_range(rank, scales, 0, 1, buffer, 16).ok());
  if (kind == ScaleKind::kNone) return local;
  EXPECT_TRUE(local.set_scales(weight, {kind, scales}).ok());
  return local;
}

TEST(ScalesTest, RanksThatSayTheSameAreMerged) {
  ModelLayout merged(2);
  for (const std::int32_t rank : {0, 1}) {
    const Result<ModelLayout> isolated = isolate(own_part(rank, ScaleKind::kBlock128), rank);
    ASSERT_TRUE(isolated.ok()) << isolated.status().message();
    EXPECT_EQ(isolated->scales(0), (Scales{ScaleKind::kBlock128, 1}));
    ASSERT_TRUE(merge(*isolated, rank, &merged).ok());
  }
  EXPECT_EQ(merged.scales(0), (Scales{ScaleKind::kBlock128, 1}));
}

TEST(ScalesTest, RanksThatSayDifferentThingsAreNamed) {
  ModelLayout merged(2);
  ASSERT_TRUE(merge(*isolate(own_part(0, ScaleKind::kBlock128), 0), 0, &merged).ok());
  const Status status = merge(*isolate(own_part(1, ScaleKind::kNone), 1), 1, &merged);
  EXPECT_EQ(status.code(), RESHARD_ERR_LAYOUT_MISMATCH);
  EXPECT_THAT(status.message(), HasSubstr("rank 1 describes tensor \"w\" without scales and a lower rank with scales "
                                          "block128 in \"s\""));
}

TEST(ScalesTest, PeopleAreToldOfThem) {
  EXPECT_THAT(rank_text(own_part(0, ScaleKind::kBlock128), 0), HasSubstr("strides 4 1, scales block128 in \"s\""));
}

}  // namespace
}  // namespace reshard
