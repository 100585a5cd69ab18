// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/options.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace reshard::perf {
namespace {

template <typename Options>
std::optional<int> parse(std::vector<std::string> words, Options* options) {
  words.insert(words.begin(), "tool");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  return parse_options(static_cast<int>(argv.size()), argv.data(), options);
}

TEST(Options, HoldWhatTheCommandLineSays) {
  PerfOptions options;
  ASSERT_FALSE(parse(
      {"--model",     "m",       "--from",    "a",      "--to", "b",         "--layers", "2",          "--colocated",
       "--transport", "local",   "--staging", "1M",     "-w",   "0",         "-n",       "3",          "--check",
       "2",           "--alloc", "heap",      "--json", "j",    "--timeout", "1.5",      "--patterns", "0"},
      &options));
  EXPECT_EQ(options.job.model, "m");
  EXPECT_EQ(options.job.from, "a");
  EXPECT_EQ(options.job.to, "b");
  EXPECT_EQ(options.job.num_layers, 2);
  EXPECT_TRUE(options.job.colocated);
  EXPECT_EQ(options.transport, TransportKind::kLocal);
  EXPECT_TRUE(options.ranks_are_threads);
  EXPECT_EQ(options.job.staging_bytes, 1 << 20);
  EXPECT_EQ(options.num_warmups, 0);
  EXPECT_EQ(options.num_runs, 3);
  EXPECT_EQ(options.num_checks, 2);
  EXPECT_TRUE(options.use_heap);
  EXPECT_EQ(options.job.json, "j");
  EXPECT_EQ(options.timeout_us, 1500000);
  EXPECT_FALSE(options.time_patterns);
}

TEST(Options, EveryTransportHasItsName) {
  for (const TransportKind kind :
       {TransportKind::kUcx, TransportKind::kLocal, TransportKind::kNccl, TransportKind::kAuto}) {
    PerfOptions options;
    ASSERT_FALSE(parse({"--spec", "s", "--transport", name_of(kind)}, &options));
    EXPECT_EQ(options.transport, kind);
    EXPECT_EQ(options.ranks_are_threads, kind == TransportKind::kLocal);
  }
  PerfOptions options;
  ASSERT_FALSE(parse({"--spec", "s", "--transport", "nccl", "--threads"}, &options));
  EXPECT_TRUE(options.ranks_are_threads);
}

TEST(Options, DefaultsAreTheDocumentedOnes) {
  PerfOptions options;
  ASSERT_FALSE(parse({"--spec", "s"}, &options));
  EXPECT_EQ(options.transport, TransportKind::kUcx);
  EXPECT_FALSE(options.ranks_are_threads);
  EXPECT_EQ(options.job.staging_bytes, 64 << 20);
  EXPECT_EQ(options.num_warmups, 2);
  EXPECT_EQ(options.num_runs, 10);
  EXPECT_EQ(options.num_checks, 1);
  EXPECT_FALSE(options.use_heap);
  EXPECT_TRUE(options.time_patterns);
}

TEST(Options, OfAPlanOnPaperHoldWhatTheCommandLineSays) {
  PlanToolOptions options;
  ASSERT_FALSE(parse({"--spec", "s", "--cluster", "c", "--simulate", "--advise", "--html", "h", "--trace", "t",
                      "--bundle", "7", "--load", "p"},
                     &options));
  EXPECT_EQ(options.job.cluster, "c");
  EXPECT_TRUE(options.simulate);
  EXPECT_TRUE(options.advise);
  EXPECT_EQ(options.html, "h");
  EXPECT_EQ(options.trace, "t");
  EXPECT_EQ(options.bundle, 7);
  EXPECT_EQ(options.load, "p");
  PlanToolOptions defaults;
  ASSERT_FALSE(parse({"--spec", "s", "--load-plan", "old name"}, &defaults));
  EXPECT_EQ(defaults.load, "old name");
  EXPECT_FALSE(defaults.simulate);
  EXPECT_FALSE(defaults.advise);
  EXPECT_EQ(defaults.html, "");
  EXPECT_EQ(defaults.trace, "");
  EXPECT_EQ(defaults.bundle, -1);
}

TEST(Options, TheLastOfARepeatedOneWins) {
  PlanToolOptions options;
  ASSERT_FALSE(parse({"--spec", "s", "--staging", "64K", "--lose", "1-2", "--spec", "t", "--order", "any", "--staging",
                      "32M", "--lose", "3", "--order", "rotated"},
                     &options));
  EXPECT_EQ(options.job.spec, "t");
  EXPECT_EQ(options.job.staging_bytes, 32 << 20);
  EXPECT_EQ(options.job.group_order, RESHARD_ORDER_ROTATED);
  EXPECT_EQ(options.lost, std::vector<std::int32_t>{3});
}

TEST(Options, WhatIsSaidOfAMachineNeedsOne) {
  const std::vector<std::vector<std::string>> lines = {{"--simulate"}, {"--advise"}, {"--html", "h"}, {"--trace", "t"}};
  for (std::vector<std::string> line : lines) {
    line.insert(line.begin(), {"--spec", "s"});
    PlanToolOptions options;
    testing::internal::CaptureStderr();
    EXPECT_NE(parse(line, &options).value_or(0), 0) << line.back();
    EXPECT_NE(testing::internal::GetCapturedStderr().find(line[2] + " requires --cluster"), std::string::npos)
        << line[2];
    line.insert(line.end(), {"--cluster", "c"});
    PlanToolOptions with_cluster;
    EXPECT_FALSE(parse(line, &with_cluster)) << line[2];
  }
  PlanToolOptions options;
  EXPECT_NE(parse({"--spec", "s", "--cluster", "c", "--bundle", "1"}, &options).value_or(0), 0) << "without --html";
  EXPECT_NE(parse({"--spec", "s", "--cluster", "c", "--html", "h", "--bundle", "-2"}, &options).value_or(0), 0);
}

TEST(Options, ContradictionsAndUnknownFlagsAreErrors) {
  const std::vector<std::vector<std::string>> lines = {
      {},
      {"--model", "m"},
      {"--model", "m", "--from", "a"},
      {"--from", "a", "--to", "b"},
      {"--spec", "s", "--model", "m", "--from", "a", "--to", "b"},
      {"--spec", "s", "--colocated"},
      {"--spec", "s", "--layers", "2"},
      {"--model", "m", "--from", "a", "--to", "b", "--layers", "0"},
      {"--spec", "s", "--staging", "64X"},
      {"--spec", "s", "--unknown"},
      {"--spec", "s", "extra"},
  };
  for (const auto& line : lines) {
    std::string text;
    for (const std::string& word : line) text += word + " ";
    PerfOptions perf;
    PlanToolOptions plan;
    EXPECT_NE(parse(line, &perf).value_or(0), 0) << text;
    EXPECT_NE(parse(line, &plan).value_or(0), 0) << text;
  }
  PerfOptions perf;
  EXPECT_NE(parse({"--spec", "s", "--transport", "tcp"}, &perf).value_or(0), 0);
  EXPECT_NE(parse({"--spec", "s", "-n", "0"}, &perf).value_or(0), 0);
  EXPECT_NE(parse({"--spec", "s", "--alloc", "1"}, &perf).value_or(0), 0);
  PlanToolOptions plan;
  EXPECT_NE(parse({"--spec", "s", "--save", "a", "--load-plan", "b"}, &plan).value_or(0), 0);
}

}  // namespace
}  // namespace reshard::perf
