// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Whatever the text, parse_spec returns: a typed error, or layouts that can be walked.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "src/model/spec.h"
#include "tests/unit/random_number.h"
#include "tests/unit/spec/spec_text.h"

namespace reshard {
namespace {

using Json = nlohmann::json;

template <typename T>
const T& pick(const std::vector<T>& values) {
  return values[static_cast<std::size_t>(random(0, static_cast<std::int64_t>(values.size()) - 1))];
}

/// Valid specs that between them use every key.
const std::vector<Json>& seeds() {
  static const std::vector<Json> kSeeds = [] {
    std::vector<Json> seeds = {example_spec()};
    seeds.push_back(spec_with("[8, 3]", 2, R"([{"shard": 0, "table": [[7, [0, 3], 7], [[4, 6], 3]]}])",
                              R"({"order": [1, 0], "pad_to": [6, 4], "nest": "outer_first"})"));
    Json nested = spec_with("[12]", 6, "[]", R"({"nest": "inner_first"})");
    nested["tensors"][0]["dst"]["mesh"]["axes"] = Json::parse(R"([["a", 2], ["b", 3]])");
    nested["tensors"][0]["dst"]["placements"] =
        Json::parse(R"([{"shard": 0, "cuts": [0, 1, 4]}, {"shard": 0, "block": 2}])");
    seeds.push_back(nested);
    Json shared = spec_with("[6]", 2, R"([{"shard": 0}])", R"({"buffer": "all", "offset": 100})");
    shared["tensors"][0]["src"] = Json::array({shared["tensors"][0]["src"], shared["tensors"][0]["src"]});
    seeds.push_back(shared);
    seeds.push_back(spec_with("[]", 1, R"(["replicate"])"));
    seeds.back()["tensors"].push_back(example_spec()["tensors"][0]);
    seeds.back()["tensors"][1]["name"] = "second";
    return seeds;
  }();
  return kSeeds;
}

/// Numbers at the borders of what the parser and the layouts count with, and texts that mean something somewhere.
Json random_leaf() {
  static const std::vector<Json> kLeaves = {0,
                                            1,
                                            2,
                                            3,
                                            5,
                                            8,
                                            -1,
                                            -8,
                                            1.0,
                                            2.5,
                                            1e30,
                                            -1e300,
                                            true,
                                            nullptr,
                                            "",
                                            "w",
                                            "replicate",
                                            "chunk",
                                            "balanced",
                                            "even",
                                            "inner_first",
                                            "outer_first",
                                            "F32",
                                            "bool",
                                            "no",
                                            std::int64_t{1} << 31,
                                            std::int64_t{1} << 32,
                                            std::int64_t{1} << 61,
                                            std::int64_t{1} << 62,
                                            INT64_MAX,
                                            INT64_MIN,
                                            UINT64_MAX};
  return pick(kLeaves);
}

Json random_json(int depth) {
  static const std::vector<std::string> kKeys = {"version", "ranks", "tensors", "name",   "group", "shape",
                                                 "src",     "dst",   "dtype",   "mesh",   "axes",  "placements",
                                                 "nest",    "order", "pad_to",  "shard",  "rule",  "cuts",
                                                 "block",   "table", "buffer",  "offset", "other"};
  const std::int64_t kind = depth == 0 ? 0 : random(0, 2);
  if (kind == 0) return random_leaf();
  Json json = kind == 1 ? Json::array() : Json::object();
  for (std::int64_t n = random(0, 4); n > 0; --n) {
    if (kind == 1) json.push_back(random_json(depth - 1));
    if (kind == 2) json[pick(kKeys)] = random_json(depth - 1);
  }
  return json;
}

void collect(Json& json, std::vector<Json*>* nodes) {
  nodes->push_back(&json);
  if (!json.is_structured()) return;
  for (Json& child : json) collect(child, nodes);
}

/// Changes one place: another value, a copy of another part of the spec, an entry less or more.
void mutate(Json* spec) {
  std::vector<Json*> nodes;
  collect(*spec, &nodes);
  Json& node = *pick(nodes);
  const Json other = *pick(nodes);
  switch (random(0, 4)) {
    case 0:
      node = random_leaf();
      break;
    case 1:
      node = other;
      break;
    case 2:
      node = random_json(2);
      break;
    case 3:
      if (node.is_array() && !node.empty()) node.erase(static_cast<std::size_t>(random(0, std::ssize(node) - 1)));
      if (node.is_object() && !node.empty()) node.erase(std::next(node.begin(), random(0, std::ssize(node) - 1)));
      break;
    default:
      if (node.is_array()) node.push_back(node.empty() ? other : node.back());
      break;
  }
}

/// The bytes that a block touches lie in [first, end) of its buffer.
std::int64_t end_bytes(const Block& block, DType dtype) {
  std::int64_t last = block.offset_bytes;
  for (int d = 0; d < block.box.num_dims; ++d) last += (block.box.extent(d) - 1) * block.strides_bytes[d];
  RC_ASSERT((block.offset_bytes >= 0 && last >= block.offset_bytes));
  return last + size_bytes(dtype);
}

/// Every block of a parsed layout stays inside its own buffer: a tensor that is placed twice may lie in two of them on
/// one rank.
void walk(const ModelLayout& layout) {
  for (std::int64_t t = 0; t < std::ssize(layout.tensors()); ++t) {
    for (const Placement& placement : layout.placements(t)) {
      for (const std::int32_t rank : placement.mesh->ranks()) {
        for (const Block& block : layout.blocks(rank, t)) {
          RC_ASSERT(end_bytes(block, at(layout.tensors(), t).dtype) <= layout.buffer_size_bytes(rank, block.buffer));
        }
      }
    }
  }
}

void check(const std::string& text) {
  const Result<SpecLayouts> layouts = parse_spec(text);
  if (layouts.ok()) {
    walk(layouts->src);
    walk(layouts->dst);
  } else {
    RC_ASSERT(layouts.status().code() == RESHARD_ERR_INVALID_ARGUMENT);
    RC_ASSERT(!layouts.status().message().empty());
    RC_ASSERT(layouts.status().message().size() < 2000U);
  }
}

TEST(SpecFuzzTest, SeedsAreValid) {
  for (const Json& seed : seeds()) {
    const Result<SpecLayouts> layouts = parse_spec(seed.dump());
    EXPECT_TRUE(layouts.ok()) << layouts.status().message();
  }
}

RC_GTEST_PROP(SpecFuzzTest, MutatedSpecsAreReadOrRefused, ()) {
  Json spec = pick(seeds());
  for (std::int64_t n = random(1, 3); n > 0; --n) mutate(&spec);
  check(spec.dump());
}

RC_GTEST_PROP(SpecFuzzTest, MutatedBytesAreReadOrRefused, ()) {
  static const std::string kBytes = "{}[]:,\"\\0123456789-+.eE \tunlfasr\xc3\xa4\xff";
  std::string text = pick(seeds()).dump();
  for (std::int64_t n = random(1, 5); n > 0; --n) {
    const auto place = static_cast<std::size_t>(random(0, std::ssize(text) - 1));
    const std::string byte(1, kBytes[static_cast<std::size_t>(random(0, std::ssize(kBytes) - 1))]);
    text.replace(place, static_cast<std::size_t>(random(0, 2)), byte);
  }
  check(text);
}

RC_GTEST_PROP(SpecFuzzTest, RandomJsonIsReadOrRefused, ()) {
  Json spec = random_json(6);
  if (spec.is_object() && random(0, 1) == 0) spec.update({{"version", 1}, {"ranks", 8}});
  check(spec.dump());
}

RC_GTEST_PROP(SpecFuzzTest, TruncatedSpecsAreRefused, ()) {
  const std::string text = pick(seeds()).dump();
  const Result<SpecLayouts> layouts =
      parse_spec(text.substr(0, static_cast<std::size_t>(random(0, std::ssize(text) - 1))));
  RC_ASSERT(!layouts.ok());
}

}  // namespace
}  // namespace reshard
