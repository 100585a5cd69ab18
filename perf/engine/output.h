// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Results must not be lost: a run may have taken a long time on many machines before it comes to writing them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace reshard::perf {

/// A file that results go to. It is opened before the work begins, so that a path that cannot be written costs no run;
/// what it held before is lost only when the results are there.
class OutputFile {
 public:
  /// An empty path: no file, and writing does nothing. Throws Error.
  explicit OutputFile(std::string path);
  ~OutputFile();  ///< takes a file away again that was made for results that never came
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  bool is_wanted() const { return !path_.empty(); }

  /// Replaces the content. Throws Error, e.g. on a full disk.
  void write(std::string_view text);

 private:
  std::string path_;
  int fd_ = -1;
  bool was_made_here_ = false;
};

/// Writes a report to standard output. Throws Error when it did not get there.
void print_report(std::string_view text);

/// Opens what the program was started without of standard input, output and error, for nothing: else the next file or
/// socket would take that number, and reports would be written into it. To be called first in main().
void reserve_standard_streams();

/// JSON text of a value whose strings may hold any bytes, as paths do: what is not UTF-8 is written as "\xE4", for
/// JSON has no bytes.
std::string json_text(nlohmann::json value, int indent = -1);

}  // namespace reshard::perf
