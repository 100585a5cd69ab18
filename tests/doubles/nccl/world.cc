// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/nccl/world.h"

#include <dlfcn.h>
#include <link.h>

#include <cstdio>
#include <cstdlib>

namespace nccl_double {
namespace {

std::int64_t from_environment(const char* name, std::int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoll(text, nullptr, 10);
}

World* make_world() {
  auto* world = new World;  // never destroyed: communicators outlive any order of destruction
  world->settings = settings_of_environment();
  world->random.seed(static_cast<std::uint64_t>(from_environment("CUDA_DOUBLE_SEED", 1)));
  return world;
}

void say(const std::string& text) {
  std::fprintf(stderr, "the double of NCCL: %s\n", text.c_str());
  std::fflush(stderr);
}

using GetSeam = cuda_double::Seam* (*)();

/// Also in libraries that were loaded with local names, as Python loads them.
int find_seam(dl_phdr_info* info, std::size_t, void* out) {
  void* const library = dlopen(*info->dlpi_name == '\0' ? nullptr : info->dlpi_name, RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return 0;
  *static_cast<GetSeam*>(out) = reinterpret_cast<GetSeam>(dlsym(library, "cuda_double_seam"));
  dlclose(library);
  return *static_cast<GetSeam*>(out) != nullptr ? 1 : 0;
}

}  // namespace

Settings settings_of_environment() {
  Settings settings;
  settings.version = static_cast<int>(from_environment("NCCL_DOUBLE_VERSION", NCCL_DOUBLE_DEFAULT_VERSION));
  settings.num_channels = static_cast<int>(from_environment("NCCL_DOUBLE_CHANNELS", settings.num_channels));
  settings.channels_per_peer =
      static_cast<int>(from_environment("NCCL_DOUBLE_CHANNELS_PER_PEER", settings.channels_per_peer));
  settings.channels_per_operation =
      static_cast<int>(from_environment("NCCL_DOUBLE_CHANNELS_PER_OPERATION", settings.channels_per_operation));
  settings.buffer_bytes = from_environment("NCCL_DOUBLE_BUFFER", settings.buffer_bytes);
  settings.delay_percent = static_cast<int>(from_environment("NCCL_DOUBLE_DELAY", settings.delay_percent));
  settings.deadlock_ms = from_environment("NCCL_DOUBLE_DEADLOCK_MS", settings.deadlock_ms);
  settings.has_concurrent_comms = from_environment("NCCL_DOUBLE_CONCURRENT_COMMS", 0) != 0;
  settings.is_strict = from_environment("NCCL_DOUBLE_STRICT", 0) != 0;
  return settings;
}

World& World::get() {
  static World& world = *make_world();
  return world;
}

cuda_double::Seam& cuda() {
  static cuda_double::Seam* const seam = [] {
    GetSeam get = nullptr;
    dl_iterate_phdr(find_seam, &get);
    if (get == nullptr) {
      say("there is no double of CUDA in this process, whose streams its work needs");
      std::abort();
    }
    return get();
  }();
  return *seam;
}

void misuse(const std::string& text) {
  say(text);
  World& world = World::get();
  ++world.counters.misuses;
  world.last_misuse = text;
  if (world.settings.is_strict) std::abort();
}

std::string& last_error() {
  thread_local std::string text;
  return text;
}

ncclResult_t fail(ncclResult_t code, std::string text) {
  last_error() = std::move(text);
  return code;
}

}  // namespace nccl_double

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
