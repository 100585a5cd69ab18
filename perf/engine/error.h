// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <utility>

#include "reshard/reshard.h"

namespace reshard::perf {

/// Why a tool cannot go on. The tools are programs, not part of the library: they throw, and main() reports once.
class Error : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) {
  throw Error(fmt::format(text, std::forward<Args>(args)...));
}

/// Turns a status of the library into an Error that says what was being done.
inline void check(reshard_status_t status, const char* what) {
  if (status != RESHARD_OK) fail("{}: {} ({})", what, reshard_last_error(), reshard_status_name(status));
}

}  // namespace reshard::perf
