// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/text.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "perf/engine/error.h"
#include "perf/engine/statistics.h"

namespace reshard::perf {
namespace {

TEST(SizeText, ReadsPowersOf1024) {
  EXPECT_EQ(parse_size_bytes("0"), 0);
  EXPECT_EQ(parse_size_bytes("4096"), 4096);
  EXPECT_EQ(parse_size_bytes("3k"), 3072);
  EXPECT_EQ(parse_size_bytes("64M"), 67108864);
  EXPECT_EQ(parse_size_bytes("2G"), 2147483648);
  EXPECT_EQ(parse_size_bytes("9223372036854775807"), INT64_MAX);
}

TEST(SizeText, RefusesEverythingElse) {
  for (const char* text :
       {"", "M", "-1", "+1", " 1", "1 ", "1.5M", "64MB", "64MiB", "1T", "0x10", "9223372036854775808", "8589934592G"}) {
    EXPECT_THROW(parse_size_bytes(text), Error) << "\"" << text << "\"";
  }
}

TEST(SizeText, PrintsTheLargestUnitThatFits) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1536), "1.50 KiB");
  EXPECT_EQ(format_bytes(64 << 20), "64.00 MiB");
}

TEST(NamePattern, ReplacesPartsThatAreNumbers) {
  EXPECT_EQ(name_pattern("model.layers.17.self_attn.q_proj.weight"), "model.layers.*.self_attn.q_proj.weight");
  EXPECT_EQ(name_pattern("model.layers.0.mlp.experts.12.w1.weight"), "model.layers.*.mlp.experts.*.w1.weight");
  EXPECT_EQ(name_pattern("3"), "*");
}

TEST(NamePattern, KeepsEverythingElse) {
  for (const char* name : {"", "lm_head.weight", "a.b2.3c", "w.", "..", ".x"}) EXPECT_EQ(name_pattern(name), name);
}

TEST(Statistics, MedianIsTheMiddleOrTheMeanOfTheTwoMiddleOnes) {
  EXPECT_EQ(median({}), 0);
  EXPECT_EQ(median({5, 1, 3}), 3);
  EXPECT_EQ(median({4, 1, 3, 2}), 2.5);
}

TEST(Statistics, PercentileIsTheNearestRank) {
  std::vector<double> samples;
  for (int i = 200; i > 0; --i) samples.push_back(i);
  EXPECT_EQ(percentile(samples, 0.99), 198);
  EXPECT_EQ(percentile({7, 9, 8}, 0.99), 9);
  EXPECT_EQ(percentile({7}, 0), 7);
}

TEST(Text, TimesHaveFourDigitsAndAUnit) {
  EXPECT_EQ(format_seconds(0), "0.000 s");
  EXPECT_EQ(format_seconds(1.39902), "1.399 s");
  EXPECT_EQ(format_seconds(44.634), "44.63 s");
  EXPECT_EQ(format_seconds(1234.6), "1235 s");
  EXPECT_EQ(format_seconds(0.9996), "1.000 s");
  EXPECT_EQ(format_seconds(0.015637), "15.64 ms");
  EXPECT_EQ(format_seconds(9.9997e-3), "10.00 ms");
  EXPECT_EQ(format_seconds(734.6e-6), "734.6 us");
  EXPECT_EQ(format_seconds(3e-9), "0.003 us");
}

}  // namespace
}  // namespace reshard::perf
