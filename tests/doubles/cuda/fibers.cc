// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/cuda/fibers.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/doubles/cuda/access_observer.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace reshard::testing {
namespace {

constexpr std::uint32_t kWarpThreads = 32;
constexpr std::size_t kStackBytes = std::size_t{256} * 1024;  // touched as far as used

thread_local AccessObserver* t_observer = nullptr;

// Stacks are made once and used by block after block.
class StackPool {
 public:
  ~StackPool() {
    for (void* stack : free_) munmap(stack, kStackBytes);
  }
  void* take() {
    if (free_.empty()) {
      void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (stack == MAP_FAILED) throw std::bad_alloc();
      return stack;
    }
    void* stack = free_.back();
    free_.pop_back();
    return stack;
  }
  void give_back(void* stack) {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stack, kStackBytes);  // of frames that were left by an error
#endif
    free_.push_back(stack);
  }

 private:
  std::vector<void*> free_;
};
thread_local StackPool t_stacks;

enum class State { kReady, kAtBlockBarrier, kAtWarpBarrier, kDone };

struct Fiber {
  ucontext_t context = {};
  void* stack = nullptr;
  void* sanitizer_state = nullptr;  // what the sanitizer keeps of a fiber that is not running
  State state = State::kReady;
  bool vote = false;
};

class Block {
 public:
  Block(std::uint32_t index, std::uint32_t num_threads, const std::function<void()>& body)
      : index_(index), body_(body), fibers_(num_threads) {
    for (Fiber& fiber : fibers_) prepare(&fiber);
  }
  ~Block() {
    for (Fiber& fiber : fibers_) {
      t_stacks.give_back(fiber.stack);
#if defined(__SANITIZE_THREAD__)
      __tsan_destroy_fiber(fiber.sanitizer_state);
#endif
    }
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  void run();
  void wait(State state) {
    fibers_[running_].state = state;
    switch_to_scheduler(false);
  }
  bool any_lane(bool predicate);

  std::uint32_t index() const {
    return index_;
  }
  std::uint32_t running() const {
    return running_;
  }

 private:
  static void enter();
  void prepare(Fiber* fiber);
  void switch_to(std::uint32_t thread);
  void switch_to_scheduler(bool is_done);
  bool release_block();
  bool release_warps();

  std::uint32_t index_;
  const std::function<void()>& body_;
  std::vector<Fiber> fibers_;
  ucontext_t scheduler_ = {};
  void* scheduler_state_ = nullptr;
  const void* scheduler_stack_ = nullptr;
  std::size_t scheduler_stack_bytes_ = 0;
  std::uint32_t running_ = 0;
  std::exception_ptr error_;
};

thread_local Block* t_block = nullptr;  // the innermost

void Block::prepare(Fiber* fiber) {
  fiber->stack = t_stacks.take();
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack;
  fiber->context.uc_stack.ss_size = kStackBytes;
  makecontext(&fiber->context, &Block::enter, 0);
#if defined(__SANITIZE_THREAD__)
  fiber->sanitizer_state = __tsan_create_fiber(0);
#endif
}

void Block::enter() {
  Block* const block = t_block;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &block->scheduler_stack_, &block->scheduler_stack_bytes_);
#endif
  try {
    block->body_();
  } catch (...) {
    block->error_ = std::current_exception();  // thrown on by the scheduler: below this frame there is nobody
  }
  block->fibers_[block->running_].state = State::kDone;
  block->switch_to_scheduler(true);
}

void Block::switch_to(std::uint32_t thread) {
  running_ = thread;
  Fiber& fiber = fibers_[thread];
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&scheduler_state_, fiber.stack, kStackBytes);
#elif defined(__SANITIZE_THREAD__)
  scheduler_state_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(fiber.sanitizer_state, 0);
#endif
  swapcontext(&scheduler_, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(scheduler_state_, nullptr, nullptr);
#endif
}

void Block::switch_to_scheduler([[maybe_unused]] bool is_done) {
  Fiber& fiber = fibers_[running_];
#if defined(__SANITIZE_ADDRESS__)
  // A fiber that does not come back leaves nothing to be kept.
  __sanitizer_start_switch_fiber(is_done ? nullptr : &fiber.sanitizer_state, scheduler_stack_, scheduler_stack_bytes_);
#elif defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(scheduler_state_, 0);
#endif
  swapcontext(&fiber.context, &scheduler_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fiber.sanitizer_state, nullptr, nullptr);
#endif
}

// All threads have arrived at a barrier. Some that have ended leave the others waiting, on a device perhaps for ever.
bool Block::release_block() {
  std::size_t num_waiting = 0;
  for (const Fiber& fiber : fibers_) num_waiting += fiber.state == State::kAtBlockBarrier ? 1 : 0;
  if (num_waiting < fibers_.size()) return false;
  for (Fiber& fiber : fibers_) fiber.state = State::kReady;
  if (t_observer != nullptr) t_observer->barrier();
  return true;
}

bool Block::release_warps() {
  bool is_released = false;
  for (std::size_t first = 0; first < fibers_.size(); first += kWarpThreads) {
    const std::size_t end = std::min(first + kWarpThreads, fibers_.size());
    bool has_all = true;
    for (std::size_t i = first; i < end; ++i) has_all = has_all && fibers_[i].state == State::kAtWarpBarrier;
    if (!has_all) continue;
    for (std::size_t i = first; i < end; ++i) fibers_[i].state = State::kReady;
    is_released = true;
  }
  return is_released;
}

void Block::run() {
  for (;;) {
    bool is_done = true;
    for (std::uint32_t thread = 0; thread < fibers_.size(); ++thread) {
      if (fibers_[thread].state == State::kReady) switch_to(thread);
      if (error_ != nullptr) std::rethrow_exception(error_);
      is_done = is_done && fibers_[thread].state == State::kDone;
    }
    if (is_done) return;
    const bool has_warp = release_warps();
    if (!has_warp && !release_block()) {
      throw std::runtime_error("block " + std::to_string(index_) +
                               ": some threads wait at a barrier that others never reach");
    }
  }
}

bool Block::any_lane(bool predicate) {
  fibers_[running_].vote = predicate;
  wait(State::kAtWarpBarrier);
  const std::size_t first = running_ / kWarpThreads * kWarpThreads;
  const std::size_t end = std::min<std::size_t>(first + kWarpThreads, fibers_.size());
  bool result = false;
  for (std::size_t i = first; i < end; ++i) result = result || fibers_[i].vote;
  wait(State::kAtWarpBarrier);  // the votes are not overwritten before all have counted them
  return result;
}

}  // namespace

void run_block(std::uint32_t block, std::uint32_t num_threads, const std::function<void()>& body) {
  Block* const outer = t_block;
  Block inner(block, num_threads, body);
  struct Restore {
    Block* outer;
    ~Restore() { t_block = outer; }
  } restore{outer};
  t_block = &inner;
  if (t_observer != nullptr) t_observer->begin_block(block);
  inner.run();
}

std::uint32_t current_thread() {
  return t_block->running();
}

std::uint32_t current_block() {
  return t_block->index();
}

void block_barrier() {
  t_block->wait(State::kAtBlockBarrier);
}

bool any_lane(bool predicate) {
  return t_block->any_lane(predicate);
}

void observe_accesses(AccessObserver* observer) {
  t_observer = observer;
}

AccessObserver* access_observer() {
  return t_observer;
}

}  // namespace reshard::testing
