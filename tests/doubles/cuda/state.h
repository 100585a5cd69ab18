// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What every function of the double passes through: one lock, the counters, the machine that is played, and injected
// errors.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <unordered_map>

#include "tests/doubles/cuda/control.h"

namespace cuda_double {

constexpr int kMaxDevices = 64;

struct Machine {
  int num_devices = 4;
  int driver_version = 13000;  // 0: there is none
  int major = 9;
  int minor = 0;
  std::uint64_t memory_bytes = std::uint64_t{64} << 30;  // of each device
  bool has_peer_access = true;
  bool has_fabric = false;
};

/// Counts down to the call that is meant.
struct Nth {
  std::int64_t left = 0;  // 0: none
  int code = 0;
  bool hit() { return left > 0 && --left == 0; }
};

struct State {
  // Recursive: one function of the runtime is sometimes written with another.
  std::recursive_mutex mutex;
  Machine machine;
  std::mt19937_64 random{1};
  std::uint64_t seed = 1;
  cuda_double_counters counters{};
  std::unordered_map<const char*, std::int64_t> calls_of;  // by the address of the name, of which there may be several
  std::map<std::string, Nth> failures;
  std::map<std::string, Nth> left_out;
  std::map<std::string, std::int64_t> orders_of;
  const char* last_failed = "";  // by `failures`
  Nth failing_work;
  int lost_code = 0;  // what every call gives since a piece of work failed; 0: nothing did
  std::int64_t num_freed_while_mapped = 0;
  bool is_strict = false;  // that is a defect
  std::array<bool, kMaxDevices> has_context{};
  std::array<std::array<bool, kMaxDevices>, kMaxDevices> has_access{};  // [device][peer]: enabled

  static State& get();
};

/// A line on standard error.
void say(const std::string& text);

/// Ends the process: what is tested did something that no error code reports on a device.
[[noreturn]] void defect(const std::string& text);

/// Before a call does anything: counts it, and gives the code that it fails with, or cudaSuccess. The lock is held.
int begin_call(const char* function);

/// Whether this order is to be left out (cuda_double_leave_out). Asked once for each call that is counted.
bool is_left_out(const char* function);

/// The code that cudaGetLastError gives on this thread.
int& last_error();

/// A function of the runtime: `body` gives its cudaError_t.
template <typename Body>
cudaError_t runtime_call(const char* function, Body body) {
  const std::lock_guard<std::recursive_mutex> lock(State::get().mutex);
  int code = begin_call(function);
  if (code == cudaSuccess) code = body();
  if (code != cudaSuccess) last_error() = code;
  return static_cast<cudaError_t>(code);
}

/// A function of the driver: keeps no last error.
template <typename Body>
CUresult driver_call(const char* function, Body body) {
  const std::lock_guard<std::recursive_mutex> lock(State::get().mutex);
  const int code = begin_call(function);
  return code == CUDA_SUCCESS ? body() : static_cast<CUresult>(code);
}

// ---- the current device of a thread

/// Context of the thread; null: none yet. Contexts are those of devices, numbered from 1.
CUcontext current_context();
void set_current_context(CUcontext context);
CUcontext context_of(int device);
int device_of(CUcontext context);

/// As cudaGetDevice tells it, without making anything.
int current_device();
void set_current_device(int device);

/// The same for a call that needs a context: makes one where the thread has none, as the runtime does.
int ensured_device();

}  // namespace cuda_double
