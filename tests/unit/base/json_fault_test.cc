// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/base/json_fault.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <utility>

#include "src/base/text_position.h"

namespace reshard {
namespace {

using ::testing::HasSubstr;

TEST(JsonFaultTest, TheByteThatDoesNotFitIsFound) {
  EXPECT_EQ(find_json_fault("[1,]").offset, 3u);
  EXPECT_EQ(find_json_fault("[1] 2").offset, 4u);
  EXPECT_EQ(find_json_fault("{\"a\": 1e999}").offset, 10u) << "the last byte of a number that is too large";
}

TEST(JsonFaultTest, ATextThatEndsTooEarlyIsAtFaultAtItsEnd) {
  for (const std::string text : {"", " ", "{", "{ \n", "[1, \"a"}) {
    EXPECT_EQ(find_json_fault(text).offset, text.size()) << '"' << text << '"';
  }
}

TEST(JsonFaultTest, TheReasonIsPrintableAndHasNoPositionOfItsOwn) {
  const std::string reason = find_json_fault("[1,\n\"\xc3\"]").reason;
  EXPECT_THAT(reason, HasSubstr("ill-formed UTF-8"));
  EXPECT_THAT(reason, HasSubstr("\"?"));
  EXPECT_THAT(reason, Not(HasSubstr("at line")));
  EXPECT_THAT(reason, Not(HasSubstr("[json.")));
  EXPECT_THAT(find_json_fault("1e999").reason, HasSubstr("number overflow parsing '1e999'"));
}

TEST(TextPositionTest, LinesAndColumnsCountFromOne) {
  using Place = std::pair<std::size_t, std::size_t>;
  const auto at = [](std::string_view text, std::size_t offset) {
    const TextPosition position = text_position(text, offset);
    return Place(position.line, position.column);
  };
  EXPECT_EQ(at("", 0), Place(1, 1));
  EXPECT_EQ(at("ab\ncd", 1), Place(1, 2));
  EXPECT_EQ(at("ab\ncd", 2), Place(1, 3)) << "a line break stands at the end of its line";
  EXPECT_EQ(at("ab\ncd", 3), Place(2, 1));
  EXPECT_EQ(at("ab\ncd", 5), Place(2, 3)) << "behind the last byte";
}

}  // namespace
}  // namespace reshard
