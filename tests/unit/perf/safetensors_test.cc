// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/data/safetensors.h"

#include <gtest/gtest.h>

#include <rapidcheck.h>
#include <rapidcheck/gtest.h>
#include <cstring>

#include "perf/engine/error.h"
#include "perf/engine/text.h"
#include "tests/unit/temporary_file.h"

namespace reshard::perf {
namespace {

std::string file_text(const std::string& header, const std::string& data) {
  const std::uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof size) + header + data;
}

/// What opening a file of this text reports; empty when it is accepted.
std::string problem_of(const std::string& text) {
  const TemporaryFile file;
  write_text_file(file.path(), text);
  try {
    const SafetensorsFile opened(file.path());
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(file.path()), std::string::npos) << "the message names the file";
    return error.what();
  }
  return "";
}

TEST(Safetensors, WhatIsWrittenIsRead) {
  const TemporaryFile file;
  SafetensorsWriter writer(file.path(),
                           {{"z", RESHARD_BF16, {2, 3}}, {"empty", RESHARD_F32, {0, 4}}, {"a", RESHARD_U8, {}}});
  const std::vector<std::byte> z(12, std::byte{7});
  const std::byte a{9};
  writer.write(z.data(), z.size());
  writer.write(&a, 1);
  writer.finish();

  const SafetensorsFile read(file.path());
  ASSERT_EQ(read.entries().size(), 3u);
  const auto* entry = read.find("z");
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->tensor.dtype, RESHARD_BF16);
  EXPECT_EQ(entry->tensor.shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(entry->data, z.data(), z.size()), 0);
  EXPECT_EQ(read.find("empty")->tensor.shape, (std::vector<std::int64_t>{0, 4}));
  EXPECT_EQ(*read.find("a")->data, a);
  EXPECT_EQ(read.find("b"), nullptr);
}

TEST(Safetensors, TheHeaderKeepsTheOrderAndAlignsTheData) {
  const TemporaryFile file;
  SafetensorsWriter writer(file.path(), {{"z", RESHARD_U8, {1}}, {"a", RESHARD_U8, {1}}});
  const std::byte data[2] = {};
  writer.write(data, 2);
  writer.finish();
  const std::string text = read_text_file(file.path());
  EXPECT_LT(text.find("\"z\""), text.find("\"a\""));
  EXPECT_EQ((text.size() - 2) % 8, 0u);
}

TEST(Safetensors, TheNameThatTheFormatReservesIsRefused) {
  const TemporaryFile file;
  EXPECT_THROW(SafetensorsWriter(file.path(), {{"__metadata__", RESHARD_U8, {1}}}), Error);
}

TEST(Safetensors, WritingTooFewBytesIsAnError) {
  const TemporaryFile file;
  SafetensorsWriter writer(file.path(), {{"a", RESHARD_F32, {2}}});
  writer.write(std::vector<std::byte>(4).data(), 4);
  EXPECT_THROW(writer.finish(), Error);
}

TEST(Safetensors, WritingWhereNothingCanBeWrittenIsAnError) {
  SafetensorsWriter writer("/nonexistent/folder/file", {});
  EXPECT_THROW(writer.finish(), Error);
}

TEST(Safetensors, ReadsMetadataAndPaddedHeaders) {
  EXPECT_EQ(problem_of(file_text(
                R"({"__metadata__":{"format":"pt"},"a":{"dtype":"I8","shape":[3],"data_offsets":[0,3]}}  )", "abc")),
            "");
  EXPECT_EQ(problem_of(file_text("{}", "")), "");
}

struct BadFile {
  const char* what;
  std::string text;
  const char* message;
};

TEST(Safetensors, MalformedFilesAreErrorsThatSayWhatIsWrong) {
  const auto one = [](const std::string& entry, const std::string& data) {
    return file_text("{\"a\":" + entry + "}", data);
  };
  const std::vector<BadFile> files = {
      {"empty", "", "shorter than the 8 bytes"},
      {"short", "1234567", "shorter than the 8 bytes"},
      {"huge header", std::string(16, '\xff'), "a header of 18446744073709551615 bytes"},
      {"header beyond the end", file_text("{}", "").substr(0, 9), "a header of 2 bytes in a file of 9"},
      {"no JSON", file_text("{", ""), "parse error"},
      {"no object", file_text("[1]", ""), "no JSON object"},
      {"entry is no object", one("1", ""), "tensor a"},
      {"no dtype", one(R"({"shape":[1],"data_offsets":[0,1]})", "x"), "dtype"},
      {"unknown dtype", one(R"({"dtype":"F7","shape":[1],"data_offsets":[0,1]})", "x"), "F7"},
      {"negative extent", one(R"({"dtype":"U8","shape":[-1],"data_offsets":[0,1]})", "x"), "extent -1"},
      {"extent of text", one(R"({"dtype":"U8","shape":["1"],"data_offsets":[0,1]})", "x"), "extent"},
      {"too many elements", one(R"({"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,1]})", "x"),
       "64 bits"},
      {"one offset", one(R"({"dtype":"U8","shape":[1],"data_offsets":[0]})", "x"), "not two sizes"},
      {"offsets backwards", one(R"({"dtype":"U8","shape":[1],"data_offsets":[1,0]})", "x"), "leave the 1 bytes"},
      {"offsets outside", one(R"({"dtype":"U8","shape":[2],"data_offsets":[0,2]})", "x"), "leave the 1 bytes"},
      {"wrong size", one(R"({"dtype":"U16","shape":[1],"data_offsets":[0,1]})", "x"), "do not fit its 2 bytes"},
      {"hole", one(R"({"dtype":"U8","shape":[1],"data_offsets":[1,2]})", "xy"), "hole or an overlap at byte 0"},
      {"rest", one(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})", "xy"), "end at byte 1 of 2"},
      {"overlap",
       file_text(
           R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
           "xyz"),
       "overlap at byte 1"},
  };
  for (const BadFile& file : files) {
    EXPECT_NE(problem_of(file.text).find(file.message), std::string::npos)
        << file.what << ": " << problem_of(file.text);
  }
}

TEST(Safetensors, AMissingFileIsAnError) {
  EXPECT_THROW(SafetensorsFile("/nonexistent/file"), Error);
}

RC_GTEST_PROP(Safetensors, AFlippedByteIsReadOrRefused, ()) {
  std::string text = file_text(
      R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"F32","shape":[],"data_offsets":[2,6]}})",
      "xyzabc");
  const auto at = *rc::gen::inRange<std::size_t>(0, text.size());
  text[at] = *rc::gen::arbitrary<char>();
  const TemporaryFile file;
  write_text_file(file.path(), text);
  try {
    const SafetensorsFile opened(file.path());
    for (const auto& [name, entry] : opened.entries()) {  // what is accepted can be read to the end
      const std::vector<std::byte> copy(entry.data, entry.data + entry.tensor.size_bytes());
      RC_ASSERT(copy.size() <= 6u);
    }
  } catch (const Error& error) {
    RC_ASSERT(std::strlen(error.what()) > 0);
  }
}

}  // namespace
}  // namespace reshard::perf
