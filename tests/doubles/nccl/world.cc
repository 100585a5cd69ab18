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
  settings.version = static_cast<int>(from_environment("NCCL_DOUBLE_VERSION", default_version()));
  settings.num_channels = static_cast<int>(from_environment("NCCL_DOUBLE_CHANNELS", settings.num_channels));
  settings.channels_per_peer =
      static_cast<int>(from_environment("NCCL_DOUBLE_CHANNELS_PER_PEER", settings.channels_per_peer));
  settings.channels_per_operation =
      static_cast<int>(from_environment("NCCL_DOUBLE_CHANNELS_PER_OPERATION", settings.channels_per_operation));
  settings.part_bytes = from_environment("NCCL_DOUBLE_PART_BYTES", settings.part_bytes);
  settings.buffer_bytes = from_environment("NCCL_DOUBLE_BUFFER", settings.buffer_bytes);
  settings.delay_percent = static_cast<int>(from_environment("NCCL_DOUBLE_DELAY", settings.delay_percent));
  settings.deadlock_ms = from_environment("NCCL_DOUBLE_DEADLOCK_MS", settings.deadlock_ms);
  settings.has_concurrent_comms = from_environment("NCCL_DOUBLE_CONCURRENT_COMMS", 0) != 0;
  settings.has_lazy_connections = from_environment("NCCL_DOUBLE_LAZY", 1) != 0;
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
