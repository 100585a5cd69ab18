// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/cuda/faults.h"

#include <signal.h>

#include <array>
#include <cstddef>

#include <fmt/format.h>

#include "tests/doubles/cuda/memory.h"
#include "tests/doubles/cuda/state.h"

namespace cuda_double {
namespace {

thread_local int kernel_device = -1;
struct sigaction others {};  // what was there before

/// Kernels run on small stacks of fibers, on which the handler has no room.
class HandlerStack {
 public:
  HandlerStack() {
    stack_t present{};
    if (sigaltstack(nullptr, &present) == 0 && (present.ss_flags & SS_DISABLE) == 0) return;  // a sanitizer's
    stack_t own{};
    own.ss_sp = bytes_.data();
    own.ss_size = bytes_.size();
    is_own_ = sigaltstack(&own, nullptr) == 0;
  }
  ~HandlerStack() {
    stack_t none{};
    none.ss_flags = SS_DISABLE;
    if (is_own_) sigaltstack(&none, nullptr);
  }

 private:
  alignas(16) std::array<std::byte, 64 << 10> bytes_{};
  bool is_own_ = false;
};

/// Runs while this thread holds the lock, if it runs a kernel; then the lists of memory stand still. If it does not,
/// the process ends, and a look at them tells why.
void on_fault(int, siginfo_t* info, void*) {
  Allocation* const allocation = find(info->si_addr);
  const bool is_kernel = kernel_device >= 0;
  if (is_kernel && allocation != nullptr && open_for(kernel_device, allocation)) return;
  const std::string who = is_kernel ? fmt::format("a kernel of device {}", kernel_device) : "the host";
  if (allocation != nullptr) {
    say(fmt::format("{} touches {}, memory of device {} that is closed to it", who, info->si_addr, allocation->device));
  } else if (was_freed(info->si_addr)) {
    say(fmt::format("{} touches {}, which was freed", who, info->si_addr));
  }
  // The access is tried again, and whoever was there before me reports where it is.
  sigaction(SIGSEGV, &others, nullptr);
}

void install_handler() {
  struct sigaction ours {};
  ours.sa_sigaction = on_fault;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &ours, &others);
}

}  // namespace

void set_kernel_device(int device) {
  // Not before there are kernels: programs that only copy keep their handlers.
  static const bool is_installed = (install_handler(), true);
  (void)is_installed;
  thread_local const HandlerStack stack;
  (void)stack;
  kernel_device = device;
}

}  // namespace cuda_double
