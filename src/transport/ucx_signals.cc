// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Goes by who handles a signal now and not by what UCX says it takes: a program may have put its own handler there
// since, which must stay.
#include "src/transport/ucx_signals.h"

#include <dlfcn.h>
#include <signal.h>
#include <ucs/debug/debug.h>

namespace reshard {
namespace {

// The library that holds a function; null when it cannot be told.
const void* library_of(const void* function) {
  Dl_info info{};
  return dladdr(function, &info) == 0 ? nullptr : info.dli_fbase;
}

bool is_handled_by_ucx(int signal_number) {
  struct sigaction action {};
  if (sigaction(signal_number, nullptr, &action) != 0) return false;
  // One word holds either form of a handler, or SIG_DFL or SIG_IGN, which lie in no library.
  const void* handler = reinterpret_cast<const void*>(action.sa_handler);
  const void* library = library_of(handler);
  return library != nullptr && library == library_of(reinterpret_cast<const void*>(&ucs_debug_disable_signal));
}

}  // namespace

void give_back_signals() {
  for (int signal_number = 1; signal_number < NSIG; ++signal_number) {
    if (is_handled_by_ucx(signal_number)) ucs_debug_disable_signal(signal_number);
  }
}

}  // namespace reshard
