// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/eplb.h"

#include <gtest/gtest.h>

namespace reshard {
namespace {

const ExpertTableShape kShape{.num_experts = 4, .num_moe_layers = 2, .num_ranks = 2};

std::string error_of(const std::string& json) {
  const Result<std::vector<ExpertTable>> tables = parse_expert_map(json, kShape);
  EXPECT_FALSE(tables.ok()) << json;
  EXPECT_EQ(tables.status().code(), RESHARD_ERR_INVALID_ARGUMENT);
  return tables.status().message();
}

void expect_words(const std::string& message, const std::vector<std::string>& words) {
  for (const std::string& word : words) EXPECT_NE(message.find(word), std::string::npos) << message;
}

TEST(EplbTest, BothFormsOfAMapGiveTheSameTables) {
  const auto flat = parse_expert_map(R"({"physical_to_logical": [[0, 1, 3, 2, 3, 0]]})", kShape);
  const auto devices = parse_expert_map(R"({"moe_layer_count": 1, "layer_list": [{"layer_id": 0, "device_count": 2,
      "device_list": [{"device_id": 1, "device_expert": [2, 3, 0]}, {"device_id": 0, "device_expert": [0, 1, 3]}]}]})",
                                        kShape);
  const std::vector<ExpertTable> expected = {{{0, 1, 3}, {2, 3, 0}}};
  ASSERT_TRUE(flat.ok()) << flat.status().message();
  ASSERT_TRUE(devices.ok()) << devices.status().message();
  EXPECT_EQ(*flat, expected);
  EXPECT_EQ(*devices, expected);
}

TEST(EplbTest, LayersAreOrderedByTheirId) {
  const auto tables = parse_expert_map(R"({"layer_list": [
      {"layer_id": 1, "device_list": [{"device_id": 0, "device_expert": [3, 2]},
                                      {"device_id": 1, "device_expert": [1, 0]}]},
      {"layer_id": 0, "device_list": [{"device_id": 0, "device_expert": [0, 1]},
                                      {"device_id": 1, "device_expert": [2, 3]}]}]})",
                                       kShape);
  ASSERT_TRUE(tables.ok()) << tables.status().message();
  EXPECT_EQ(*tables, (std::vector<ExpertTable>{{{0, 1}, {2, 3}}, {{3, 2}, {1, 0}}}));
}

TEST(EplbTest, ExpertOutOfRangeIsNamedWithLayerAndSlot) {
  expect_words(error_of(R"({"physical_to_logical": [[0, 1, 2, 3], [0, 1, 2, 4]]})"),
               {"layer 1", "slot 3", "rank 1", "expert 4", "0 to 3"});
  expect_words(error_of(R"({"physical_to_logical": [[0, -1, 2, 3]]})"), {"layer 0", "slot 1", "expert -1"});
}

TEST(EplbTest, ExpertWithoutSlotIsNamed) {
  expect_words(error_of(R"({"physical_to_logical": [[0, 1, 2, 0]]})"), {"layer 0", "expert 3"});
}

TEST(EplbTest, TablesThatDoNotFitAreNamed) {
  expect_words(error_of(R"({"physical_to_logical": [[0, 1, 2, 3, 0]]})"), {"layer 0", "5 expert slots", "ep = 2"});
  expect_words(error_of(R"({"physical_to_logical": []})"), {"0 layers for 2 layers"});
  expect_words(error_of(R"({"layer_list": [{"layer_id": 0, "device_list": [
      {"device_id": 0, "device_expert": [0, 1, 2, 3]}]}]})"),
               {"layer 0", "1 devices for ep = 2"});
}

TEST(EplbTest, MalformedMapsAreRefused) {
  for (const char* json :
       {"", "[", "7", "[]", "{}", R"({"physical_to_logical": 1})", R"({"physical_to_logical": [1]})",
        R"({"physical_to_logical": [["0", 1, 2, 3]]})", R"({"physical_to_logical": [[0.5, 1, 2, 3]]})",
        R"({"layer_list": [1]})", R"({"layer_list": [{"layer_id": 1, "device_list": []}]})",
        R"({"layer_list": [{"layer_id": 0}]})",
        R"({"layer_list": [{"layer_id": 0, "device_list": [{"device_id": 0}, {"device_id": 1}]}]})",
        R"({"layer_list": [{"layer_id": 0, "device_list": [{"device_id": 0, "device_expert": [0, 1]},
                                                           {"device_id": 0, "device_expert": [2, 3]}]}]})"}) {
    expect_words(error_of(json), {"expert map"});
  }
}

TEST(EplbTest, GeneratedTablesHoldEachExpert) {
  EXPECT_EQ(linear_experts(5, 3), (ExpertTable{{0, 1}, {2, 3}, {4}}));
  EXPECT_EQ(linear_experts(2, 3), (ExpertTable{{0}, {1}, {}}));
  EXPECT_EQ(round_robin_experts(5, 3), (ExpertTable{{0, 3}, {1, 4}, {2}}));
  EXPECT_EQ(*redundant_experts(4, 2, 3), (ExpertTable{{0, 1}, {2, 3}, {0, 1}}));
  EXPECT_EQ(*redundant_experts(2, 4, 2), (ExpertTable{{0, 1, 0}, {1, 0, 1}}));
}

TEST(EplbTest, ConsecutiveExpertsAreOneSegment) {
  const DimMapPtr map = expert_dim_map({{0, 1, 3, 3}, {}});
  ASSERT_EQ(map->parts.size(), 2U);
  EXPECT_EQ(map->parts[0].segments, (std::vector<Segment>{{0, 2, 0}, {3, 4, 2}, {3, 4, 3}}));
  EXPECT_EQ(map->parts[0].extent, 4);
  EXPECT_TRUE(map->parts[1].segments.empty());
}

}  // namespace
}  // namespace reshard
