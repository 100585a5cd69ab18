// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/cuda/control.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "tests/doubles/cuda/capture.h"
#include "tests/doubles/cuda/driver_pages.h"
#include "tests/doubles/cuda/memory.h"
#include "tests/doubles/cuda/scheduler.h"
#include "tests/doubles/cuda/state.h"

using cuda_double::State;

namespace {

using Lock = std::lock_guard<std::recursive_mutex>;

template <typename Set>
void change_machine(Set set) {
  const Lock lock(State::get().mutex);
  set(&State::get().machine);
}

}  // namespace

extern "C" {

void cuda_double_seed(uint64_t seed) {
  const Lock lock(State::get().mutex);
  State::get().seed = seed;
  State::get().random.seed(seed);
  cuda_double::draw_habits();
}

void cuda_double_set_devices(int count) {
  change_machine([&](auto* machine) { machine->num_devices = std::min(count, cuda_double::kMaxDevices); });
}
void cuda_double_set_driver(int version) {
  change_machine([&](auto* machine) { machine->driver_version = version; });
}
void cuda_double_set_capability(int major, int minor) {
  change_machine([&](auto* machine) { machine->major = major, machine->minor = minor; });
}
void cuda_double_set_memory(uint64_t bytes) {
  change_machine([&](auto* machine) { machine->memory_bytes = bytes; });
}
void cuda_double_set_peer_access(int is_possible) {
  change_machine([&](auto* machine) { machine->has_peer_access = is_possible != 0; });
}
void cuda_double_set_fabric(int is_supported) {
  change_machine([&](auto* machine) { machine->has_fabric = is_supported != 0; });
}

cuda_double_counters cuda_double_count() {
  const Lock lock(State::get().mutex);
  return State::get().counters;
}

int64_t cuda_double_calls_of(const char* function) {
  const Lock lock(State::get().mutex);
  std::int64_t sum = 0;
  for (const auto& [name, count] : State::get().calls_of) {
    if (std::strcmp(name, function) == 0) sum += count;
  }
  return sum;
}

void cuda_double_reset_counters() {
  const Lock lock(State::get().mutex);
  State::get().counters = {};
  State::get().calls_of.clear();
}

void cuda_double_fail(const char* function, int64_t nth, int code) {
  const Lock lock(State::get().mutex);
  State::get().failures[function] = {nth, code};
}

const char* cuda_double_last_failed() {
  const Lock lock(State::get().mutex);
  return State::get().last_failed;
}

void cuda_double_fail_work(int64_t nth, int code) {
  const Lock lock(State::get().mutex);
  State::get().failing_work = {nth, code};
}

void cuda_double_leave_out(const char* function, int64_t nth) {
  const Lock lock(State::get().mutex);
  State::get().left_out[function] = {nth, 0};
  State::get().orders_of[function] = 0;
}

int64_t cuda_double_orders_of(const char* function) {
  const Lock lock(State::get().mutex);
  return State::get().orders_of[function];
}

void cuda_double_clear() {
  const Lock lock(State::get().mutex);
  State& state = State::get();
  state.counters = {};
  state.calls_of.clear();
  state.failures.clear();
  state.left_out.clear();
  state.orders_of.clear();
  state.failing_work = {};
  state.lost_code = 0;
  state.num_freed_while_mapped = 0;
  state.last_failed = "";
  cuda_double::last_error() = 0;
}

int cuda_double_has_context(int device) {
  const Lock lock(State::get().mutex);
  return State::get().has_context.at(static_cast<std::size_t>(device)) ? 1 : 0;
}

int64_t cuda_double_num_live() {
  const Lock lock(State::get().mutex);
  return static_cast<int64_t>(cuda_double::allocations().size()) + cuda_double::num_streams_and_events() +
         cuda_double::num_page_handles() + cuda_double::num_graphs();
}

int64_t cuda_double_num_freed_while_mapped() {
  const Lock lock(State::get().mutex);
  return State::get().num_freed_while_mapped;
}

int64_t cuda_double_num_queued() {
  const Lock lock(State::get().mutex);
  return cuda_double::num_queued();
}

int cuda_double_can_access(int device, const void* ptr, size_t size_bytes) {
  const Lock lock(State::get().mutex);
  return cuda_double::can_access(device, ptr, size_bytes) ? 1 : 0;
}

void cuda_double_peek(void* out, const void* device_memory, size_t size_bytes) {
  const Lock lock(State::get().mutex);
  cuda_double::open_range(device_memory, size_bytes, "a look");
  std::memcpy(out, device_memory, size_bytes);
  cuda_double::close_all();
}

void cuda_double_poke(void* device_memory, const void* in, size_t size_bytes) {
  const Lock lock(State::get().mutex);
  cuda_double::open_range(device_memory, size_bytes, "a change");
  std::memcpy(device_memory, in, size_bytes);
  cuda_double::close_all();
}

}  // extern "C"
