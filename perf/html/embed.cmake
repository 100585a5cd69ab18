# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
# cmake -D INPUT=page.html -D OUTPUT=page_html.cc -P embed.cmake: the file's bytes as page_template() of plan_page.h.
file(READ "${INPUT}" bytes HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "(................................................................................)" "\\1\n"
  bytes "${bytes}")
file(WRITE "${OUTPUT}" "// Made from page.html.
#include \"perf/engine/plan_page.h\"

namespace reshard::perf {

std::string_view page_template() {
  static constexpr unsigned char kBytes[] = {
${bytes}};
  return {reinterpret_cast<const char*>(kBytes), sizeof kBytes};
}

}  // namespace reshard::perf
")
