// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/eplb.h"

#include <gtest/gtest.h>

#include <ctime>

namespace reshard {
namespace {

const ExpertTableShape kShape{.num_experts = 4, .is_moe = {true, true}, .num_ranks = 2};

std::string table_error(const std::string& json) {
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
  expect_words(table_error(R"({"physical_to_logical": [[0, 1, 2, 3], [0, 1, 2, 4]]})"),
               {"row 1 (layer 1)", "slot 3", "rank 1", "expert 4", "0 to 3"});
  expect_words(table_error(R"({"physical_to_logical": [[0, -1, 2, 3]]})"),
               {"row 0 (all layers)", "slot 1", "expert -1"});
}

TEST(EplbTest, ExpertWithoutSlotIsNamed) {
  expect_words(table_error(R"({"physical_to_logical": [[0, 1, 2, 0]]})"), {"row 0", "expert 3"});
}

TEST(EplbTest, TablesThatDoNotFitAreNamed) {
  expect_words(table_error(R"({"physical_to_logical": [[0, 1, 2, 3, 0]]})"), {"row 0", "5 expert slots", "ep = 2"});
  expect_words(table_error(R"({"physical_to_logical": [[0, 1, 2]]})"), {"row 0", "3 expert slots for 4 experts"});
  expect_words(table_error(R"({"physical_to_logical": []})"), {"0 rows", "2 layers"});
  expect_words(table_error(R"({"layer_list": [{"layer_id": 0, "device_list": [
      {"device_id": 0, "device_expert": [0, 1, 2, 3]}]}]})"),
               {"row 0", "1 devices for ep = 2"});
}

/// Three layers, the first dense, two ranks of three slots.
const ExpertTableShape kDenseFirst{.num_experts = 4, .is_moe = {false, true, true}, .num_ranks = 2};

TEST(EplbTest, RowsAreThoseOfLayersWithExpertsOrOfAllLayers) {
  const std::vector<ExpertTable> expected = {{{0, 1, 2}, {3, 1, 2}}, {{3, 2, 1}, {0, 0, 3}}};
  const auto per_moe_layer =
      parse_expert_map(R"({"physical_to_logical": [[0, 1, 2, 3, 1, 2], [3, 2, 1, 0, 0, 3]]})", kDenseFirst);
  ASSERT_TRUE(per_moe_layer.ok()) << per_moe_layer.status().message();
  EXPECT_EQ(*per_moe_layer, expected);
  // SGLang writes a row for every decoder layer; that of the dense layer 0 holds no expert of the model.
  for (const char* dense_row : {"[0, 1, 2, 3, 0, 1]", "[]", "[9, 9]"}) {
    const auto per_layer = parse_expert_map(
        std::string(R"({"physical_to_logical": [)") + dense_row + ", [0, 1, 2, 3, 1, 2], [3, 2, 1, 0, 0, 3]]}",
        kDenseFirst);
    ASSERT_TRUE(per_layer.ok()) << per_layer.status().message();
    EXPECT_EQ(*per_layer, expected);
  }
  const auto one = parse_expert_map(R"({"physical_to_logical": [[0, 1, 2, 3, 1, 2]]})", kDenseFirst);
  ASSERT_TRUE(one.ok()) << one.status().message();
  EXPECT_EQ(*one, (std::vector<ExpertTable>{{{0, 1, 2}, {3, 1, 2}}}));
}

TEST(EplbTest, AnyOtherNumberOfRowsIsRefused) {
  const std::string row = "[0, 1, 2, 3, 1, 2]";
  for (const int num_rows : {4, 5, 61}) {
    std::string rows = row;
    for (int i = 1; i < num_rows; ++i) rows += ", " + row;
    const auto tables = parse_expert_map(R"({"physical_to_logical": [)" + rows + "]}", kDenseFirst);
    ASSERT_FALSE(tables.ok()) << num_rows;
    expect_words(tables.status().message(), {std::to_string(num_rows) + " rows", "3 layers", "2 of them with experts"});
  }
}

TEST(EplbTest, DeviceListsFollowTheSameRule) {
  const auto layer = [](int id, const char* first, const char* second) {
    return R"({"layer_id": )" + std::to_string(id) + R"(, "device_list": [{"device_id": 0, "device_expert": )" + first +
           R"(}, {"device_id": 1, "device_expert": )" + second + "}]}";
  };
  const auto tables = parse_expert_map(R"({"layer_list": [)" + layer(0, "[7]", "[8]") + ", " +
                                           layer(1, "[0, 1]", "[2, 3]") + ", " + layer(2, "[3, 2]", "[1, 0]") + "]}",
                                       kDenseFirst);
  ASSERT_TRUE(tables.ok()) << tables.status().message();
  EXPECT_EQ(*tables, (std::vector<ExpertTable>{{{0, 1}, {2, 3}}, {{3, 2}, {1, 0}}}));
}

TEST(EplbTest, SglangsNameOfTheMapIsKnown) {
  const auto tables =
      parse_expert_map(R"({"physical_to_logical_map": [[0, 1, 2, 3, 1, 2], [3, 2, 1, 0, 0, 3]]})", kDenseFirst);
  ASSERT_TRUE(tables.ok()) << tables.status().message();
  EXPECT_EQ((*tables)[1], (ExpertTable{{3, 2, 1}, {0, 0, 3}}));
  expect_words(table_error(R"({"physical_to_logical": [[0, 1, 2, 3]], "physical_to_logical_map": [[0, 1, 2, 3]]})"),
               {"both physical_to_logical and physical_to_logical_map"});
}

TEST(EplbTest, BrokenJsonIsToldByLineAndColumn) {
  expect_words(table_error("{\"physical_to_logical\":\n [[0, 1, 2, 3],]}"), {"expert map", "line 2", "column 16"});
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
    expect_words(table_error(json), {"expert map"});
  }
}

TEST(EplbTest, SmallMapsForManyRanksAreRefusedBeforeListsPerRankAreMade) {
  // 100 rows for 262144 ranks in 400 bytes: took 600 MB when every row was dealt out first.
  std::string rows = "[]";
  for (int i = 1; i < 100; ++i) rows += ", []";
  const ExpertTableShape shape{.num_experts = 4, .is_moe = std::vector<bool>(100, true), .num_ranks = 1 << 18};
  const std::clock_t begin = std::clock();
  const auto tables = parse_expert_map(R"({"physical_to_logical": [)" + rows + "]}", shape);
  EXPECT_LT(std::clock() - begin, CLOCKS_PER_SEC / 10);
  ASSERT_FALSE(tables.ok());
  expect_words(tables.status().message(), {"row 0", "0 expert slots for 4 experts"});
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
