// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <set>

#include "tests/doubles/cuda/scheduler.h"

namespace cuda_double {
namespace {

std::set<void*>& handles() {
  static auto& list = *new std::set<void*>;
  return list;
}

}  // namespace

EventState* event_of(void* handle) {
  return handles().count(handle) == 0 ? nullptr : static_cast<EventState*>(handle);
}

void* add_event(int device) {
  auto* event = new EventState;
  event->device = device;
  handles().insert(event);
  return event;
}

bool remove_event(void* handle) {
  if (handles().erase(handle) == 0) return false;
  delete static_cast<EventState*>(handle);
  return true;
}

std::int64_t num_events() {
  return static_cast<std::int64_t>(handles().size());
}

}  // namespace cuda_double
