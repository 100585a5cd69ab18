// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The last error is one text per thread, as errno is: two threads that fail at once each read their own.
#include "src/api/error.h"

#include <fmt/format.h>

namespace reshard::api {
namespace {

std::string& last_error() {
  thread_local std::string text;
  return text;
}

}  // namespace

/// A call that succeeds leaves the text of the last failure: whoever looks late still finds it.
reshard_status_t record(const Status& status) noexcept {
  if (!status.ok()) {
    try {
      last_error() = status.message();
    } catch (...) {
      last_error().clear();  // no memory for the text: the code still tells
    }
  }
  return status.code();
}

Status check_not_null(const void* pointer, const char* argument) {
  if (pointer != nullptr) return {};
  return invalid_argument(fmt::format("{} is NULL", argument));
}

Status check_timeout(std::int64_t timeout_us) {
  if (timeout_us > 0) return {};
  return invalid_argument(fmt::format("timeout_us is {}; give more than 0", timeout_us));
}

Status check_header(const StructHeader& given, const StructHeader& expected, const char* type) {
  if (given.size == expected.size && given.version == expected.version) return {};
  return invalid_argument(
      fmt::format("{} has struct_size {} and version {}, expected {} and {}; call its init function, "
                  "and compile with the header of the library that is loaded",
                  type, given.size, given.version, expected.size, expected.version));
}

}  // namespace reshard::api

extern "C" const char* reshard_last_error(void) {
  return reshard::api::last_error().c_str();
}
