// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/nccl/control.h"

#include "tests/doubles/nccl/world.h"

extern "C" {

using nccl_double::World;
using Lock = std::lock_guard<std::recursive_mutex>;

void nccl_double_clear() {
  const Lock lock(nccl_double::cuda().mutex());
  World& world = World::get();
  const std::int64_t num_comms = world.counters.comms;
  world.settings = nccl_double::settings_of_environment();
  world.counters = {};
  world.counters.comms = num_comms;
  world.calls_of.clear();
  world.failures.clear();
  world.lost_message = world.breaking_kernel = {};
  world.last_misuse.clear();
  world.last_deadlock.clear();
}

void nccl_double_seed(uint64_t seed) {
  const Lock lock(nccl_double::cuda().mutex());
  World::get().random.seed(seed);
}

void nccl_double_set_version(int version) {
  const Lock lock(nccl_double::cuda().mutex());
  World::get().settings.version = version;
}

void nccl_double_set_channels(int total, int per_peer, int per_operation) {
  const Lock lock(nccl_double::cuda().mutex());
  nccl_double::Settings& settings = World::get().settings;
  settings.num_channels = total;
  settings.channels_per_peer = per_peer;
  settings.channels_per_operation = per_operation;
}

void nccl_double_set_part(int64_t bytes) {
  const Lock lock(nccl_double::cuda().mutex());
  World::get().settings.part_bytes = bytes;
}

void nccl_double_set_buffer(int64_t bytes) {
  const Lock lock(nccl_double::cuda().mutex());
  World::get().settings.buffer_bytes = bytes;
}

void nccl_double_set_delay(int percent) {
  const Lock lock(nccl_double::cuda().mutex());
  World::get().settings.delay_percent = percent;
}

void nccl_double_set_deadlock_ms(int64_t milliseconds) {
  const Lock lock(nccl_double::cuda().mutex());
  World::get().settings.deadlock_ms = milliseconds;
}

void nccl_double_set_concurrent_comms(int is_possible) {
  const Lock lock(nccl_double::cuda().mutex());
  World::get().settings.has_concurrent_comms = is_possible != 0;
}

void nccl_double_set_lazy_connections(int is_lazy) {
  const Lock lock(nccl_double::cuda().mutex());
  World::get().settings.has_lazy_connections = is_lazy != 0;
}

void nccl_double_fail(const char* function, int64_t nth, int code) {
  const Lock lock(nccl_double::cuda().mutex());
  World::get().failures[function] = {nth, code};
}

void nccl_double_lose_message(int64_t nth) {
  const Lock lock(nccl_double::cuda().mutex());
  World::get().lost_message = {nth, 0};
}

void nccl_double_break_at(int64_t nth_kernel, int code) {
  const Lock lock(nccl_double::cuda().mutex());
  World::get().breaking_kernel = {nth_kernel, code};
}

nccl_double_counters nccl_double_count() {
  const Lock lock(nccl_double::cuda().mutex());
  return World::get().counters;
}

int64_t nccl_double_calls_of(const char* function) {
  const Lock lock(nccl_double::cuda().mutex());
  const auto found = World::get().calls_of.find(function);
  return found == World::get().calls_of.end() ? 0 : found->second;
}

const char* nccl_double_last_misuse() {
  const Lock lock(nccl_double::cuda().mutex());
  return World::get().last_misuse.c_str();
}

const char* nccl_double_last_deadlock() {
  const Lock lock(nccl_double::cuda().mutex());
  return World::get().last_deadlock.c_str();
}

}  // extern "C"
