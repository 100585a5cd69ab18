// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The program's own functions of these names are found before the library's; each notes its argument and hands it on.
#include "tests/unit/hpp/count_destroys.h"

#include <dlfcn.h>
#include <reshard/reshard.h>

#include <mutex>
#include <utility>

namespace hpp_test {
namespace {

std::mutex mutex;
Destroyed destroyed;

template <typename Function>
Function library_function(const char* name, const void* argument) {
  const std::lock_guard<std::mutex> lock(mutex);
  destroyed[name].push_back(argument);
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

Destroyed take_destroyed() {
  const std::lock_guard<std::mutex> lock(mutex);
  return std::exchange(destroyed, {});
}

}  // namespace hpp_test

#define COUNTED(object)                                                                                        \
  extern "C" void reshard_##object##_destroy(reshard_##object##_t handle) {                                    \
    hpp_test::library_function<void (*)(reshard_##object##_t)>("reshard_" #object "_destroy", handle)(handle); \
  }
COUNTED(layout)
COUNTED(machine)
COUNTED(plan)
COUNTED(comm)
COUNTED(binding)
COUNTED(manifest)
COUNTED(reload)

extern "C" reshard_status_t reshard_free(reshard_comm_t comm, void* ptr) {
  return hpp_test::library_function<reshard_status_t (*)(reshard_comm_t, void*)>("reshard_free", ptr)(comm, ptr);
}
