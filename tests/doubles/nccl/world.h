// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What the double holds for a process: settings, counts, injected errors. Guarded by the mutex of the double of CUDA,
// since the work of both is one.
#pragma once

#include <nccl.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>

#include "tests/doubles/cuda/seam.h"
#include "tests/doubles/nccl/control.h"

namespace nccl_double {

struct Settings {
  int version = 0;
  int num_channels = 32;
  int channels_per_peer = 32;
  int channels_per_operation = 32;
  std::int64_t part_bytes = 0;
  std::int64_t buffer_bytes = 0;
  int delay_percent = 20;
  std::int64_t deadlock_ms = 30000;
  bool has_concurrent_comms = false;
  bool has_lazy_connections = true;
  bool is_strict = false;  // a misuse ends the process
};

/// Counts down to the one that is meant.
struct Nth {
  std::int64_t left = 0;  // 0: none
  int code = 0;
  bool hit() { return left > 0 && --left == 0; }
};

struct World {
  Settings settings;
  nccl_double_counters counters{};
  std::map<std::string, std::int64_t> calls_of;
  std::map<std::string, Nth> failures;
  Nth lost_message;
  Nth breaking_kernel;
  std::string last_misuse;
  std::string last_deadlock;
  std::mt19937_64 random{1};

  static World& get();
  bool happens(int percent) { return static_cast<int>(random() % 100) < percent; }
};

int default_version();  // of this library
Settings settings_of_environment();

/// The double of CUDA in this process. Ends the process when there is none.
cuda_double::Seam& cuda();

/// Something that NCCL does not report, or not always, and that ends in a hang or in wrong bytes.
void misuse(const std::string& text);

/// The text that ncclGetLastError gives on this thread.
std::string& last_error();
ncclResult_t fail(ncclResult_t code, std::string text);

/// A function of NCCL.
template <typename Body>
ncclResult_t call(const char* function, Body body) {
  const std::lock_guard<std::recursive_mutex> lock(cuda().mutex());
  World& world = World::get();
  ++world.counters.calls;
  ++world.calls_of[function];
  const auto found = world.failures.find(function);
  if (found != world.failures.end() && found->second.hit()) {
    return fail(static_cast<ncclResult_t>(found->second.code), std::string(function) + " was told to fail");
  }
  return body();
}

}  // namespace nccl_double
