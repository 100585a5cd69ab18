// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/output.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "perf/engine/error.h"
#include "perf/engine/text.h"
#include "tests/unit/temporary_file.h"

namespace reshard::perf {
namespace {

TEST(OutputFile, ReplacesWhatTheFileHeldOnlyWithResults) {
  const TemporaryFile file;
  write_text_file(file.path(), "older and longer");
  { const OutputFile never_written(file.path()); }
  EXPECT_EQ(read_text_file(file.path()), "older and longer");
  OutputFile(file.path()).write("new");
  EXPECT_EQ(read_text_file(file.path()), "new");
}

TEST(OutputFile, LeavesNoFileBehindWhenTheResultsNeverCame) {
  const TemporaryFile file;
  {
    const OutputFile opened(file.path());
    EXPECT_TRUE(std::filesystem::exists(file.path())) << "opened before the work, not after it";
  }
  EXPECT_FALSE(std::filesystem::exists(file.path()));
}

TEST(OutputFile, SaysWhyItCannotBeWritten) {
  try {
    const OutputFile opened("/nowhere/at all");
    FAIL() << "a folder that does not exist";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "cannot write /nowhere/at all: No such file or directory");
  }
  OutputFile full("/dev/full");
  EXPECT_THROW(full.write("text"), Error);
}

TEST(OutputFile, WithoutAPathIsNothing) {
  OutputFile none("");
  EXPECT_FALSE(none.is_wanted());
  none.write("text");
}

TEST(JsonText, EscapesWhatIsNotUtf8AndKeepsTheRest) {
  const nlohmann::json value = {{"path",
                                 "b\xE4"
                                 "d \xC3\xA4 \xE2\x82\xAC \xF0\x9F\x98\x80"},
                                {"list", {1, "\xC3"}}};
  EXPECT_EQ(json_text(value),
            "{\"list\":[1,\"\\\\xC3\"],\"path\":\"b\\\\xE4"
            "d \xC3\xA4 \xE2\x82\xAC \xF0\x9F\x98\x80\"}");
}

TEST(JsonText, EscapesEveryByteOfAFalseSequence) {
  // An overlong "/", a surrogate, a code point beyond the last one, a byte that goes on with nothing.
  for (const std::string text : {"\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\x80"}) {
    const std::string out = json_text(text);
    EXPECT_EQ(out.size(), 2 + 5 * text.size()) << out;  // quotes, and for each byte a doubled backslash, x, two digits
  }
}

}  // namespace
}  // namespace reshard::perf
