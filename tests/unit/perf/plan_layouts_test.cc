// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/plan_layouts.h"

#include <gtest/gtest.h>

#include "perf/engine/handles.h"

namespace reshard::perf {
namespace {

using nlohmann::json;

/// Two layers of a matrix: rows on ranks 0 and 1, then columns on 2 and 3, whole on 4; a vector that only the source
/// has.
constexpr char kTwoLayers[] = R"({"version": 1, "ranks": 5, "tensors": [
  {"name": "layers.0.w", "group": 0, "shape": [4, 6],
   "src": {"dtype": "F32", "mesh": {"axes": [["x", 2]], "ranks": [0, 1]}, "placements": [{"shard": 0}]},
   "dst": [{"dtype": "BF16", "mesh": {"axes": [["x", 2]], "ranks": [2, 3]}, "placements": [{"shard": 1}], "pad_to": [4, 4]},
           {"dtype": "BF16", "mesh": {"axes": [["x", 1]], "ranks": [4]}, "placements": ["replicate"]}]},
  {"name": "layers.1.w", "group": 1, "shape": [4, 6],
   "src": {"dtype": "F32", "mesh": {"axes": [["x", 2]], "ranks": [0, 1]}, "placements": [{"shard": 0}]},
   "dst": {"dtype": "BF16", "mesh": {"axes": [["x", 2]], "ranks": [2, 3]}, "placements": [{"shard": 1}]}},
  {"name": "v", "group": 0, "shape": [3],
   "src": {"dtype": "F32", "mesh": {"axes": [["x", 4]], "ranks": [0, 1, 2, 4]}, "placements": ["replicate"]}}]})";

json pictures(const char* spec) {
  reshard_layout_t src = nullptr;
  reshard_layout_t dst = nullptr;
  EXPECT_EQ(reshard_layout_create_from_spec(spec, &src, &dst), RESHARD_OK) << reshard_last_error();
  const Layout own_src(src);
  const Layout own_dst(dst);
  return layout_pictures(src, dst);
}

TEST(PlanLayouts, TheFirstTensorOfAKindStandsForAll) {
  const json found = pictures(kTwoLayers);
  EXPECT_EQ(found["left_out"], 0);
  ASSERT_EQ(found["kinds"].size(), 2U);
  const json& matrix = found["kinds"][0];
  EXPECT_EQ(matrix["kind"], "layers.*.w");
  EXPECT_EQ(matrix["tensor"], "layers.0.w");
  EXPECT_EQ(matrix["tensors"], 2);
  EXPECT_EQ(matrix["shape"], json({4, 6}));
  EXPECT_EQ(matrix["src"], json::parse(R"({"dtype": "F32", "num_boxes": 2, "boxes": [
    {"begin": [0, 0], "end": [2, 6], "ranks": "0", "num_ranks": 1},
    {"begin": [2, 0], "end": [4, 6], "ranks": "1", "num_ranks": 1}]})"));
  // Padding is no part of the tensor.
  EXPECT_EQ(matrix["dst"], json::parse(R"({"dtype": "BF16", "num_boxes": 3, "boxes": [
    {"begin": [0, 0], "end": [4, 3], "ranks": "2", "num_ranks": 1},
    {"begin": [0, 0], "end": [4, 6], "ranks": "4", "num_ranks": 1},
    {"begin": [0, 3], "end": [4, 6], "ranks": "3", "num_ranks": 1}]})"));
}

TEST(PlanLayouts, RanksThatHoldTheSameAreListedTogether) {
  const json vector = pictures(kTwoLayers)["kinds"][1];
  EXPECT_EQ(vector["src"]["boxes"], json::parse(R"([{"begin": [0], "end": [3], "ranks": "0-2, 4", "num_ranks": 4}])"));
  EXPECT_TRUE(vector["dst"].is_null());
}

TEST(PlanLayouts, WhatIsTooMuchForAPictureIsCounted) {
  json spec = {{"version", 1}, {"ranks", 1}, {"tensors", json::array()}};
  const json side =
      json::parse(R"({"dtype": "F32", "mesh": {"axes": [["x", 1]], "ranks": [0]}, "placements": ["replicate"]})");
  for (int i = 0; i < 70; ++i) {
    const std::string name(1 + static_cast<std::size_t>(i), 'w');
    spec["tensors"].push_back(
        {{"name", name}, {"group", 0}, {"shape", json::array({1})}, {"src", side}, {"dst", side}});
  }
  EXPECT_EQ(pictures(spec.dump().c_str())["kinds"].size(), 60U);
  EXPECT_EQ(pictures(spec.dump().c_str())["left_out"], 10);

  const json dealt = json::parse(
      R"({"dtype": "F32", "mesh": {"axes": [["x", 2]], "ranks": [0, 1]}, "placements": [{"shard": 0, "block": 1}]})");
  spec["ranks"] = 2;
  spec["tensors"] = json::array();
  spec["tensors"].push_back(
      {{"name", "w"}, {"group", 0}, {"shape", json::array({1000})}, {"src", dealt}, {"dst", dealt}});
  const json found = pictures(spec.dump().c_str())["kinds"][0]["src"];
  EXPECT_EQ(found["num_boxes"], 1000);
  EXPECT_EQ(found["boxes"].size(), 256U);
}

}  // namespace
}  // namespace reshard::perf
