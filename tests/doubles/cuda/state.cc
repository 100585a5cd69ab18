// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/cuda/state.h"

#include <cstdio>
#include <cstdlib>
#include <set>

#include "tests/doubles/cuda/capture.h"

namespace cuda_double {
namespace {

thread_local int thread_device = 0;  // of cudaSetDevice, while there is no context
thread_local CUcontext thread_context = nullptr;

std::int64_t from_environment(const char* name, std::int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoll(text, nullptr, 10);
}

State* make_state() {
  auto* state = new State;  // never destroyed: objects of tests outlive any order of destruction
  state->seed = static_cast<std::uint64_t>(from_environment("CUDA_DOUBLE_SEED", 1));
  state->random.seed(state->seed);
  state->machine.num_devices = static_cast<int>(from_environment("CUDA_DOUBLE_DEVICES", 4));
  state->machine.driver_version = static_cast<int>(from_environment("CUDA_DOUBLE_DRIVER", 13000));
  state->is_strict = from_environment("CUDA_DOUBLE_STRICT", 0) != 0;
  state->machine.has_peer_access = from_environment("CUDA_DOUBLE_PEER_ACCESS", 1) != 0;
  state->machine.has_fabric = from_environment("CUDA_DOUBLE_FABRIC", 0) != 0;
  return state;
}

/// What the machine that is played makes of any call at all.
int code_of_machine(const Machine& machine) {
  if (machine.driver_version < 13000) return cudaErrorInsufficientDriver;
  if (machine.num_devices == 0) return cudaErrorNoDevice;
  return cudaSuccess;
}

bool gives_back(const std::string& function) {
  static const std::set<std::string> names{
      "cudaFree",         "cudaFreeHost",      "cudaFreeAsync", "cudaHostUnregister", "cudaIpcCloseMemHandle",
      "cudaEventDestroy", "cudaStreamDestroy", "cuMemRelease",  "cuMemUnmap",         "cuMemAddressFree"};
  return names.count(function) != 0;
}

}  // namespace

State& State::get() {
  static State& state = *make_state();
  return state;
}

void say(const std::string& text) {
  std::fprintf(stderr, "the double of CUDA: %s\n", text.c_str());
  std::fflush(stderr);
}

void defect(const std::string& text) {
  say(text);
  std::abort();
}

int begin_call(const char* function) {
  State& state = State::get();
  ++state.counters.calls;
  ++state.calls_of[function];
  if (const int code = code_of_machine(state.machine); code != cudaSuccess) return code;
  for (const char* name : {function, "any"}) {
    if (state.failures.empty()) break;  // as for nearly all calls
    const auto found = state.failures.find(name);
    const bool is_meant = name == function || !gives_back(function);
    if (found == state.failures.end() || !is_meant || !found->second.hit()) continue;
    state.last_failed = function;
    return found->second.code;
  }
  if (const int code = code_of_unsafe_call(function); code != cudaSuccess) return code;
  return state.lost_code;
}

bool is_left_out(const char* function) {
  State& state = State::get();
  if (state.left_out.empty()) return false;  // nobody asks for their number either
  ++state.orders_of[function];
  const auto found = state.left_out.find(function);
  return found != state.left_out.end() && found->second.hit();
}

int& last_error() {
  thread_local int code = 0;
  return code;
}

CUcontext current_context() {
  return thread_context;
}
void set_current_context(CUcontext context) {
  thread_context = context;
}
CUcontext context_of(int device) {
  return reinterpret_cast<CUcontext>(static_cast<std::intptr_t>(device) + 1);
}
int device_of(CUcontext context) {
  return static_cast<int>(reinterpret_cast<std::intptr_t>(context)) - 1;
}

int current_device() {
  return thread_context == nullptr ? thread_device : device_of(thread_context);
}

void set_current_device(int device) {
  thread_device = device;
  thread_context = context_of(device);
  State::get().has_context.at(static_cast<std::size_t>(device)) = true;
}

int ensured_device() {
  if (thread_context == nullptr) set_current_device(thread_device);
  return device_of(thread_context);
}

}  // namespace cuda_double
