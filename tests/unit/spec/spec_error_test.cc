// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Each bad input is a typed error that names the tensor, the side, the key and the value.

#include <gtest/gtest.h>

#include "src/model/spec.h"
#include "tests/unit/spec/spec_text.h"

namespace reshard {
namespace {

using Json = nlohmann::json;

void expect_text_refused(const std::string& text, const std::vector<std::string>& parts) {
  const Result<SpecLayouts> layouts = parse_spec(text);
  ASSERT_FALSE(layouts.ok()) << text;
  EXPECT_EQ(layouts.status().code(), RESHARD_ERR_INVALID_ARGUMENT);
  for (const std::string& part : parts) {
    EXPECT_NE(layouts.status().message().find(part), std::string::npos)
        << "no " << part << " in: " << layouts.status().message();
  }
}

void expect_refused(const Json& spec, const std::vector<std::string>& parts) {
  expect_text_refused(spec.dump(), parts);
}

struct BadSpec {
  const char* name;
  const char* pointer;  ///< of the value that replaces the example's, as a JSON pointer
  const char* value;    ///< nullptr: the key is removed
  std::vector<std::string> parts;
};

std::ostream& operator<<(std::ostream& out, const BadSpec& bad) {
  return out << bad.name;
}

class SpecErrorTest : public ::testing::TestWithParam<BadSpec> {};

TEST_P(SpecErrorTest, IsRefusedByName) {
  const BadSpec& bad = GetParam();
  Json spec = example_spec();
  const Json::json_pointer pointer(bad.pointer);
  if (bad.value != nullptr) {
    spec[pointer] = Json::parse(bad.value);
  } else {
    spec[pointer.parent_pointer()].erase(pointer.back());
  }
  expect_refused(spec, bad.parts);
}

std::string name_of(const ::testing::TestParamInfo<BadSpec>& info) {
  return info.param.name;
}

INSTANTIATE_TEST_SUITE_P(Root, SpecErrorTest,
                         ::testing::Values(BadSpec{"OtherVersion", "/version", "2", {"version", "2"}},
                                           BadSpec{"VersionAsText", "/version", "\"1\"", {"version", "\"1\""}},
                                           BadSpec{"NoVersion", "/version", nullptr, {"\"version\""}},
                                           BadSpec{"NoRanks", "/ranks", nullptr, {"\"ranks\""}},
                                           BadSpec{"ZeroRanks", "/ranks", "0", {"ranks", "0"}},
                                           BadSpec{"NegativeRanks", "/ranks", "-3", {"ranks", "-3"}},
                                           BadSpec{"RanksBeyond32Bits", "/ranks", "2147483648", {"2147483648"}},
                                           BadSpec{"RanksBeyondAnyCluster", "/ranks", "1073741824", {"1073741824"}},
                                           BadSpec{"RanksBeyond64Bits", "/ranks", "18446744073709551615", {"ranks"}},
                                           BadSpec{"RanksAsFloat", "/ranks", "8.0", {"ranks", "8.0", "integer"}},
                                           BadSpec{"RanksAsBool", "/ranks", "true", {"ranks", "true"}},
                                           BadSpec{"RanksHuge", "/ranks", "1e30", {"ranks", "1e+30"}},
                                           BadSpec{"TensorsAsObject", "/tensors", "{}", {"tensors", "list"}},
                                           BadSpec{"NoTensors", "/tensors", nullptr, {"\"tensors\""}},
                                           BadSpec{"UnknownKey", "/tensor", "1", {"\"tensor\"", "version, ranks"}}),
                         name_of);

INSTANTIATE_TEST_SUITE_P(
    Tensor, SpecErrorTest,
    ::testing::Values(BadSpec{"TensorAsNumber", "/tensors/0", "3", {"tensors[0]", "3", "name, shape"}},
                      BadSpec{"TensorUnknownKey", "/tensors/0/dtype", "\"bf16\"", {"tensors[0]", "\"dtype\"", "group"}},
                      BadSpec{"NoName", "/tensors/0/name", nullptr, {"tensors[0]", "\"name\""}},
                      BadSpec{"NameAsNumber", "/tensors/0/name", "12", {"tensors[0]", "name", "12"}},
                      BadSpec{"EmptyName", "/tensors/0/name", "\"\"", {"tensors[0]", "name"}},
                      BadSpec{"NameWithNul", "/tensors/0/name", "\"a\\u0000b\"", {"tensors[0]", "name", "NUL"}},
                      BadSpec{"NoShape", "/tensors/0/shape", nullptr, {"\"shape\""}},
                      BadSpec{"ShapeAsNumber", "/tensors/0/shape", "240", {"\"w\"", "shape", "240"}},
                      BadSpec{"NegativeExtent", "/tensors/0/shape", "[240, -2]", {"\"w\"", "shape", "entry 1", "-2"}},
                      BadSpec{"FloatExtent", "/tensors/0/shape", "[240, 2.5]", {"\"w\"", "shape", "entry 1", "2.5"}},
                      BadSpec{"HugeExtent", "/tensors/0/shape", "[9223372036854775808]", {"9223372036854775808"}},
                      BadSpec{"ManyElements", "/tensors/0/shape", "[4611686018427387904, 2]", {"\"w\"", "2^62"}},
                      BadSpec{"ManyElementsOfNone", "/tensors/0/shape", "[0, 4611686018427387904, 9]", {"\"w\""}},
                      BadSpec{"NineDims", "/tensors/0/shape", "[1,1,1,1,1,1,1,1,1]", {"\"w\"", "9 dims"}},
                      BadSpec{"GroupAsText", "/tensors/0/group", "\"0\"", {"\"w\"", "group", "\"0\""}},
                      BadSpec{
                          "NoSide", "/tensors/0", R"({"name": "w", "shape": [4]})", {"\"w\"", "\"src\"", "\"dst\""}},
                      BadSpec{"SideAsList", "/tensors/0/dst", "[]", {"\"w\"", "dst", "list"}}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Side, SpecErrorTest,
    ::testing::Values(
        BadSpec{"NoDtype", "/tensors/0/dst/dtype", nullptr, {"\"w\"", "dst", "\"dtype\""}},
        BadSpec{"UnknownDtype", "/tensors/0/src/dtype", "\"bf17\"", {"\"w\"", "src", "dtype", "bf17", "BF16"}},
        BadSpec{"DtypeAsNumber", "/tensors/0/src/dtype", "16", {"\"w\"", "src", "dtype", "16"}},
        BadSpec{"UnknownSideKey", "/tensors/0/dst/pad", "[1]", {"\"w\"", "dst", "\"pad\"", "pad_to"}},
        BadSpec{"NoMesh", "/tensors/0/dst/mesh", nullptr, {"\"w\"", "dst", "\"mesh\""}},
        BadSpec{"MeshAsList", "/tensors/0/dst/mesh", "[4]", {"\"w\"", "dst", "mesh", "axes, ranks"}},
        BadSpec{"UnknownMeshKey", "/tensors/0/dst/mesh/rank", "0", {"mesh", "\"rank\"", "axes, ranks"}},
        BadSpec{"NoAxes", "/tensors/0/dst/mesh/axes", "[]", {"\"w\"", "dst", "mesh", "axes"}},
        BadSpec{"AxisAsText", "/tensors/0/dst/mesh/axes/0", "\"tp\"", {"mesh", "axes", "entry 0", "\"tp\""}},
        BadSpec{"AxisOfThree", "/tensors/0/dst/mesh/axes/0", "[\"tp\", 4, 4]", {"axes", "[name, size]"}},
        BadSpec{"AxisNameAsNumber", "/tensors/0/dst/mesh/axes/0", "[4, 4]", {"axes", "string"}},
        BadSpec{"AxisOfZero", "/tensors/0/dst/mesh/axes/0", "[\"tp\", 0]", {"\"w\"", "dst", "\"tp\"", "0"}},
        BadSpec{"AxisHuge", "/tensors/0/dst/mesh/axes/0", "[\"tp\", 9223372036854775807]", {"tp=9223372036854775807"}},
        BadSpec{"AxisNameTwice", "/tensors/0/src/mesh/axes/1", "[\"dp\", 2]", {"\"w\"", "src", "axes", "\"dp\""}},
        BadSpec{"RankTwice", "/tensors/0/dst/mesh/ranks", "[4, 5, 5, 7]", {"\"w\"", "dst", "rank 5"}},
        BadSpec{"RankMissing", "/tensors/0/dst/mesh/ranks", "[4, 5, 6]", {"\"w\"", "dst", "3 ranks"}},
        BadSpec{"RankNegative", "/tensors/0/dst/mesh/ranks/2", "-1", {"\"w\"", "dst", "ranks", "entry 2", "-1"}},
        BadSpec{"RankOutsideWorld", "/tensors/0/dst/mesh/ranks/3", "8", {"\"w\"", "dst", "ranks", "rank 8", "8 ranks"}},
        BadSpec{"RankBeyond32Bits", "/tensors/0/dst/mesh/ranks/3", "4294967297", {"rank 4294967297"}},
        BadSpec{"RankAsFloat", "/tensors/0/dst/mesh/ranks/3", "7.5", {"entry 3", "7.5"}},
        BadSpec{
            "UnknownNest", "/tensors/0/dst/nest", "\"outer\"", {"\"w\"", "dst", "nest", "\"outer\"", "inner_first"}},
        BadSpec{"NestAsBool", "/tensors/0/dst/nest", "true", {"nest", "true"}},
        BadSpec{"OrderTooShort", "/tensors/0/dst/order", "[0]", {"\"w\"", "dst", "order [0]"}},
        BadSpec{"OrderEmpty", "/tensors/0/dst/order", "[]", {"\"w\"", "dst", "order []"}},
        BadSpec{"OrderRepeats", "/tensors/0/dst/order", "[1, 1]", {"order [1, 1]", "[0, 1]"}},
        BadSpec{"OrderOutside", "/tensors/0/dst/order", "[1, 2]", {"order [1, 2]"}},
        BadSpec{"OrderHuge", "/tensors/0/dst/order", "[1, 4294967296]", {"order [1, 4294967296]"}},
        BadSpec{"OrderAsNumber", "/tensors/0/dst/order", "1", {"\"w\"", "dst", "order", "list"}},
        BadSpec{"BufferAsNumber", "/tensors/0/dst/buffer", "7", {"\"w\"", "dst", "buffer", "7"}},
        BadSpec{"BufferEmpty", "/tensors/0/dst/buffer", "\"\"", {"\"w\"", "dst", "buffer", "empty"}},
        BadSpec{"BufferWithNul", "/tensors/0/dst/buffer", "\"a\\u0000\"", {"dst", "buffer", "NUL"}},
        BadSpec{"OffsetHuge",
                "/tensors/0/dst",
                R"({"dtype": "bf16", "mesh": {"axes": [["x", 1]], "ranks": [0]},
            "placements": ["replicate"], "buffer": "other", "offset": 9223372036854775807})",
                {"\"w\"", "dst", "offset"}},
        BadSpec{"OffsetWithoutBuffer", "/tensors/0/dst/offset", "8", {"\"w\"", "dst", "offset", "\"buffer\""}},
        BadSpec{"PadTooSmall", "/tensors/0/dst/pad_to", "[240, 60]", {"\"w\"", "dst", "dim 1", "60", "61"}},
        BadSpec{"PadWholeTooSmall", "/tensors/0/dst/pad_to", "[239, 61]", {"dim 0", "239", "240"}},
        BadSpec{"PadTooShort", "/tensors/0/dst/pad_to", "[240]", {"\"w\"", "dst", "pad_to [240]"}},
        BadSpec{"PadEmpty", "/tensors/0/dst/pad_to", "[]", {"pad_to []"}},
        BadSpec{"PadNegative", "/tensors/0/dst/pad_to", "[240, -61]", {"pad_to", "entry 1", "-61"}},
        BadSpec{"PadHuge", "/tensors/0/dst/pad_to", "[4611686018427387904, 61]", {"\"w\"", "dst", "2^62 bytes"}}),
    name_of);

INSTANTIATE_TEST_SUITE_P(
    Placement, SpecErrorTest,
    ::testing::Values(
        BadSpec{"NoPlacements", "/tensors/0/dst/placements", nullptr, {"\"placements\""}},
        BadSpec{"TooFewPlacements", "/tensors/0/src/placements", "[{\"shard\": 0}]", {"\"w\"", "src", "1 placements"}},
        BadSpec{"TooManyPlacements", "/tensors/0/dst/placements/1", "\"replicate\"", {"2 placements", "1 axes"}},
        BadSpec{"UnknownText", "/tensors/0/dst/placements/0", "\"shard\"", {"\"w\"", "dst", "placements", "entry 0"}},
        BadSpec{"PlacementAsNumber", "/tensors/0/dst/placements/0", "0", {"placements", "entry 0", "replicate"}},
        BadSpec{"NoShard", "/tensors/0/dst/placements/0/shard", nullptr, {"entry 0", "\"shard\""}},
        BadSpec{"DimOutside", "/tensors/0/dst/placements/0/shard", "2", {"\"w\"", "dst", "\"tp\"", "dim 2", "2 dims"}},
        BadSpec{"DimNegative", "/tensors/0/dst/placements/0/shard", "-1", {"shard", "-1"}},
        BadSpec{"DimHuge", "/tensors/0/dst/placements/0/shard", "4294967296", {"dim 4294967296"}},
        BadSpec{"UnknownPlacementKey", "/tensors/0/dst/placements/0/dim", "1", {"\"dim\"", "shard, rule, cuts"}},
        BadSpec{"UnknownRule", "/tensors/0/dst/placements/0/rule", "\"torch\"", {"rule", "\"torch\"", "balanced"}},
        BadSpec{"RuleAsNumber", "/tensors/0/dst/placements/0/rule", "1", {"rule", "1"}},
        BadSpec{"TwoRules", "/tensors/0/dst/placements/0/block", "4", {"\"w\"", "dst", "rule, cuts, block and table"}},
        BadSpec{"EvenDoesNotDivide", "/tensors/0/dst/placements/0/rule", "\"even\"", {"\"w\"", "dst", "dim 1", "241"}}),
    name_of);

/// A destination of 4 ranks whose only axis has this placement of a dim of 8.
void expect_placement_refused(const std::string& placement, const std::vector<std::string>& parts) {
  const Json spec = spec_with("[8, 2]", 4, ("[" + placement + "]").c_str());
  std::vector<std::string> all = {"\"w\"", "dst"};
  all.insert(all.end(), parts.begin(), parts.end());
  expect_refused(spec, all);
}

TEST(SpecErrorTest, CutsMustFit) {
  expect_placement_refused(R"({"shard": 0, "cuts": [0, 2, 8]})", {"\"x\"", "3 entries"});
  expect_placement_refused(R"({"shard": 0, "cuts": []})", {"\"x\"", "0 entries"});
  expect_placement_refused(R"({"shard": 0, "cuts": [0, 2, 4, 6, 9]})", {"dim 0", "[0, 2, 4, 6, 9]"});
  expect_placement_refused(R"({"shard": 0, "cuts": [0, 2, 4, 3, 8]})", {"dim 0", "[0, 2, 4, 3, 8]"});
  expect_placement_refused(R"({"shard": 0, "cuts": [1, 2, 4, 6, 8]})", {"dim 0", "[1, 2, 4, 6, 8]"});
  expect_placement_refused(R"({"shard": 0, "cuts": [0, -2, 4, 6, 8]})", {"cuts", "entry 1", "-2"});
  expect_placement_refused(R"({"shard": 0, "cuts": 4})", {"cuts", "4"});
}

TEST(SpecErrorTest, BlocksMustBePositive) {
  expect_placement_refused(R"({"shard": 0, "block": 0})", {"dim 0", "block", "0"});
  expect_placement_refused(R"({"shard": 0, "block": -4})", {"block", "-4"});
  expect_placement_refused(R"({"shard": 0, "block": 1.5})", {"block", "1.5"});
}

TEST(SpecErrorTest, TablesMustFit) {
  expect_placement_refused(R"({"shard": 0, "table": [[0], [1]]})", {"\"x\"", "2 rows"});
  expect_placement_refused(R"({"shard": 0, "table": [[0], [1], [2], [8]]})", {"dim 0", "coordinate 3", "8"});
  expect_placement_refused(R"({"shard": 0, "table": [[0], [1], [2], [[5, 9]]]})", {"dim 0", "coordinate 3", "[5, 9)"});
  expect_placement_refused(R"({"shard": 0, "table": [[0], [[3, 1]], [], []]})", {"table", "entry 1", "[3, 1]"});
  expect_placement_refused(R"({"shard": 0, "table": [[0], [[3]], [], []]})", {"table", "entry 1", "[start, end]"});
  expect_placement_refused(R"({"shard": 0, "table": [[0], [-1], [], []]})", {"table", "entry 1", "-1"});
  expect_placement_refused(R"({"shard": 0, "table": [[0], ["1"], [], []]})", {"table", "entry 1", "\"1\""});
  expect_placement_refused(R"({"shard": 0, "table": [0, 1, 2, 3]})", {"table", "entry 0", "list"});
  expect_placement_refused(R"({"shard": 0, "table": [[9223372036854775807], [], [], []]})", {"9223372036854775807"});
}

TEST(SpecErrorTest, CutsAndTablesMustFitEveryListTheySplit) {
  // chunk of 5 over 2 leaves lists of 3 and 2.
  for (const char* second : {R"({"shard": 0, "cuts": [0, 1, 3]})", R"({"shard": 0, "table": [[2], [0]]})",
                             R"({"shard": 0, "cuts": [0, 1, 2]})"}) {
    Json spec = spec_with("[5]", 4, "[]");
    Json& dst = spec["tensors"][0]["dst"];
    dst["mesh"]["axes"] = Json::parse(R"([["a", 2], ["b", 2]])");
    dst["placements"] = {Json::parse(R"({"shard": 0})"), Json::parse(second)};
    expect_refused(spec, {"\"w\"", "dst", "dim 0"});
  }
}

TEST(SpecErrorTest, AbsurdSizesAreRefusedBeforeTheyAreAllocated) {
  const auto refused = [](const char* shape, const char* placement, const char* more, const char* part) {
    expect_refused(spec_with(shape, 1, placement, more), {"\"w\"", "dst", part});
  };
  refused("[1099511627776]", R"([{"shard": 0, "block": 1}])", "{}", "block 1");
  refused("[2305843009213693951]", R"([{"shard": 0, "block": 3}])", "{}", "block 3");
  refused("[1048576]", R"([{"shard": 0}])", R"({"pad_to": [9223372036854775807]})", "2^62 bytes");
  const std::string rows = "[[0, 1099511627776]" + [] {
    std::string more;
    for (int i = 0; i < 5000; ++i) more += ", [0, 1099511627776]";
    return more;
  }() + "]";
  refused("[1099511627776, 1024]", (R"([{"shard": 0, "table": [)" + rows + "]}]").c_str(), "{}", "2^62 bytes");
  // 2^20 blocks along each of two dims: few segments, but 2^40 pieces.
  Json spec = spec_with("[1048576, 1048576]", 1, "[]");
  Json& dst = spec["tensors"][0]["dst"];
  dst["mesh"]["axes"] = Json::parse(R"([["a", 1], ["b", 1]])");
  dst["placements"] = Json::parse(R"([{"shard": 0, "table": [[0]]}, {"shard": 1, "table": [[0]]}])");
  for (const int axis : {0, 1}) {
    Json& row = dst["placements"][static_cast<std::size_t>(axis)]["table"][0];
    for (int i = 2; i < 20000; i += 2) row.push_back(i);
  }
  expect_refused(spec, {"\"w\"", "dst", "pieces"});
}

TEST(SpecErrorTest, PlacementsOfOneTensorHaveOneDtype) {
  Json spec = example_spec();
  Json& dst = spec["tensors"][0]["dst"];
  dst = Json::array({dst, dst});
  dst[1]["dtype"] = "F32";
  expect_refused(spec, {"\"w\"", "dst", "entry 1", "F32", "BF16"});
  dst[1]["mesh"]["ranks"][0] = 8;
  expect_refused(spec, {"\"w\"", "dst", "entry 1", "mesh", "rank 8"});
}

TEST(SpecErrorTest, ASharedBufferHasNoNameThatATensorsOwnHas) {
  Json spec = example_spec();
  spec["tensors"].push_back(spec["tensors"][0]);
  spec["tensors"][1]["name"] = "v";
  spec["tensors"][1]["src"]["buffer"] = "w";
  expect_refused(spec, {"src", "buffer \"w\"", "tensor \"w\""});
  spec["tensors"][0]["src"]["buffer"] = "w";
  EXPECT_TRUE(parse_spec(spec.dump()).ok());
}

TEST(SpecErrorTest, NamesAreUnique) {
  Json spec = example_spec();
  spec["tensors"].push_back(spec["tensors"][0]);
  expect_refused(spec, {"tensors[1]", "\"w\"", "twice"});
}

TEST(SpecErrorTest, ScalarsCannotBeSharded) {
  expect_refused(spec_with("[]", 2, R"([{"shard": 0}])"), {"\"w\"", "dst", "dim 0", "0 dims"});
}

TEST(SpecErrorTest, TextThatIsNotJsonIsRefusedWithLineAndColumn) {
  expect_text_refused("", {"spec: not JSON at line 1, column 1: ", "unexpected end of input"});
  expect_text_refused("{\"version\": 1,", {"line 1, column 15", "unexpected end of input"});
  expect_text_refused("{\"version\": 1,}", {"line 1, column 15", "'}'"});
  expect_text_refused("{\n \"version\": 1,\n\n  }\n", {"line 4, column 3", "'}'"});
  expect_text_refused("\n{\"version\": 1e999}", {"line 2, column 17", "1e999"});
  expect_text_refused("{\n\n\n\"version\": 1\n\"ranks\": 2}", {"line 5, column 7", "string literal"});
  expect_text_refused("\xff\xfe", {"line 1, column 1", "?"});
  expect_text_refused(example_spec().dump() + "\n}", {"line 2, column 1", "end of input"});
  expect_text_refused("[]", {"spec", "object"});
  expect_text_refused("null", {"spec", "null"});
  for (const char* text : {"", "{", "[1,]", "{\"a\": 1e999}", "\xff", "\"a", "nul"}) {
    EXPECT_EQ(parse_spec(text).status().message().find("exception"), std::string::npos) << text;
  }
}

TEST(SpecErrorTest, RepeatedKeysAreRefused) {
  expect_text_refused(R"({"version": 1, "ranks": 8, "ranks": 4, "tensors": []})", {"\"ranks\"", "twice"});
}

TEST(SpecErrorTest, DeepNestingIsRefusedWithoutRecursion) {
  const std::size_t depth = 1 << 17;  // a frame of 64 bytes for each would be more than a stack has
  expect_text_refused(std::string(depth, '['), {"spec"});
  expect_text_refused(std::string(depth, '[') + std::string(depth, ']'), {"spec", "list"});
  const std::string nested = R"({"version": 1, "ranks": )" + std::string(depth, '[') + std::string(depth, ']') + "}";
  expect_text_refused(nested, {"spec"});
}

TEST(SpecErrorTest, LongValuesAreCutInMessages) {
  Json spec = example_spec();
  std::string umlauts;
  for (int i = 0; i < 5000; ++i) umlauts += "\xc3\xa4";
  spec["tensors"][0]["src"]["nest"] = umlauts;
  const Result<SpecLayouts> layouts = parse_spec(spec.dump());
  ASSERT_FALSE(layouts.ok());
  EXPECT_LT(layouts.status().message().size(), 1000U);
  EXPECT_NO_THROW(Json(layouts.status().message()).dump());  // still valid UTF-8
}

}  // namespace
}  // namespace reshard
