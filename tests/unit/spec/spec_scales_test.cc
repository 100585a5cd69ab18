// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Scales in the general JSON form: a side names the tensor and the kind; a tensor may be on one side only.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/model/spec.h"
#include "tests/unit/spec/spec_text.h"

namespace reshard {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;

/// The example with a destination of 8-bit floats, whose scales stand behind it and are at the destination alone.
Json quantised_spec() {
  Json spec = example_spec();
  Json& dst = spec["tensors"][0]["dst"];
  dst["dtype"] = "f8_e4m3";
  dst["scales"] = {{"kind", "block128"}, {"tensor", "w_scale_inv"}};
  Json side = dst;
  side["dtype"] = "f32";
  side["placements"] = {"replicate"};
  side.erase("scales");
  spec["tensors"].push_back({{"name", "w_scale_inv"}, {"shape", {2, 2}}, {"dst", side}});
  return spec;
}

std::string refusal(const Json& spec) {
  const Result<SpecLayouts> layouts = parse_spec(spec.dump());
  EXPECT_FALSE(layouts.ok());
  EXPECT_EQ(layouts.status().code(), RESHARD_ERR_INVALID_ARGUMENT);
  return layouts.status().message();
}

TEST(SpecScalesTest, ASideNamesItsScalesWhereverTheyStand) {
  const Result<SpecLayouts> layouts = parse_spec(quantised_spec().dump());
  ASSERT_TRUE(layouts.ok()) << layouts.status().message();
  EXPECT_EQ(layouts->dst.scales(0), (Scales{ScaleKind::kBlock128, 1}));
  EXPECT_EQ(layouts->src.scales(0), Scales{});
  EXPECT_EQ(layouts->src.find_tensor("w_scale_inv"), -1) << "computed scales have no source";
}

TEST(SpecScalesTest, WhatIsWrongIsNamedBySideTensorAndKey) {
  Json spec = quantised_spec();
  spec["tensors"][0]["dst"]["scales"]["kind"] = "block";
  EXPECT_THAT(refusal(spec),
              HasSubstr("tensor \"w\": dst: scales: kind: unknown kind of scales \"block\"; known are "));

  spec = quantised_spec();
  spec["tensors"][0]["dst"]["scales"]["tensor"] = "x";
  EXPECT_THAT(refusal(spec), HasSubstr("dst: tensor \"w\": scales: tensor: there is no \"x\" on this side"));

  spec = quantised_spec();
  spec["tensors"][0]["dst"]["scales"].erase("kind");
  EXPECT_THAT(refusal(spec), HasSubstr("dst: scales: the key \"kind\" is missing"));

  spec = quantised_spec();
  spec["tensors"][0]["dst"]["dtype"] = "bf16";
  EXPECT_THAT(refusal(spec), HasSubstr("the tensor is BF16; scales belong to F8_E4M3"));

  spec = quantised_spec();
  spec["tensors"][1]["shape"] = {2, 1};
  EXPECT_THAT(refusal(spec), HasSubstr("have the shape [2, 2], not [2, 1]"));

  spec = quantised_spec();
  spec["tensors"][1]["group"] = 1;
  EXPECT_THAT(refusal(spec), HasSubstr("is in group 1, and the tensor in group 0"));
}

TEST(SpecScalesTest, AllPlacementsOfATensorSayTheSame) {
  Json spec = quantised_spec();
  Json& dst = spec["tensors"][0]["dst"];
  dst = Json::array({dst, dst});
  dst[1].erase("scales");
  EXPECT_THAT(refusal(spec), HasSubstr("entry 1: scales: are others than in entry 0"));
}

TEST(SpecScalesTest, ATensorIsOnOneSideAtLeast) {
  Json spec = quantised_spec();
  spec["tensors"][1].erase("dst");
  EXPECT_THAT(refusal(spec), HasSubstr("tensor \"w_scale_inv\": the keys \"src\" and \"dst\" are missing"));
}

}  // namespace
}  // namespace reshard
