// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Where variables of the process come in, and its parent, and where UCX's signals go back. All else in the library gets
// what it needs of these as arguments, so that callers and tests decide it and not the shell.
#include "src/api/config.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>

#if RESHARD_HAVE_UCX
#include "src/transport/ucx_signals.h"
#endif

namespace reshard::api {

#if RESHARD_HAVE_UCX
namespace {

// Runs when the library is loaded, which is right after UCX's: a program that only links this one must find its signals
// as they were. Whoever asks UCX by its variables to handle signals gets that.
[[gnu::constructor]] void give_back_signals_of_ucx() {
  for (const char* asked : {"UCX_DEBUG_SIGNO", "UCX_HANDLE_ERRORS", "UCX_ERROR_SIGNALS"}) {
    if (read_environment(asked) != nullptr) return;
  }
  give_back_signals();
}

}  // namespace
#endif

const char* read_environment(const char* name) {
  return std::getenv(name);
}

std::string parent_process() {
  std::string name;
  std::ifstream file("/proc/" + std::to_string(getppid()) + "/comm");
  std::getline(file, name);
  return name;
}

}  // namespace reshard::api
