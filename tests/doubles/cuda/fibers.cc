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

/// A stack on which threads of blocks run: where one ends, the next begins. Most kernels wait at no barrier, and one
/// stack takes all their threads.
struct Fiber {
  ucontext_t context = {};
  void* stack = nullptr;
  void* sanitizer_state = nullptr;  // what the sanitizer keeps of a fiber that is not running
};

// Fibers are made once and used by block after block.
class FiberPool {
 public:
  ~FiberPool();
  Fiber* take();
  void give_back(Fiber* fiber) { idle_.push_back(fiber); }
  /// Of one that an error left in the middle of a thread: it begins anew.
  void restore(Fiber* fiber) {
    prepare(fiber);
    give_back(fiber);
  }

 private:
  static void prepare(Fiber* fiber);

  std::vector<std::unique_ptr<Fiber>> all_;
  std::vector<Fiber*> idle_;
};
thread_local FiberPool t_fibers;

enum class State { kReady, kAtBlockBarrier, kAtWarpBarrier, kDone };

struct Thread {
  Fiber* fiber = nullptr;  // from its first piece of work to its end
  State state = State::kReady;
  bool vote = false;
};

class Block {
 public:
  Block(std::uint32_t index, std::uint32_t num_threads, const std::function<void()>& body)
      : index_(index), body_(body), threads_(num_threads) {}
  ~Block() {
    for (const Thread& thread : threads_) {
      if (thread.fiber != nullptr) t_fibers.restore(thread.fiber);
    }
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  void run();
  void wait(State state) {
    Thread& thread = threads_[running_];
    thread.state = state;
    switch_to_scheduler(thread.fiber);
  }
  bool any_lane(bool predicate);

  std::uint32_t index() const { return index_; }
  std::uint32_t running() const { return running_; }

  static void enter();  ///< what a fiber does

 private:
  void go_on(std::uint32_t thread);
  Fiber* run_threads();
  void switch_to_scheduler(Fiber* fiber);
  bool release_block();
  bool release_warps();

  std::uint32_t index_;
  const std::function<void()>& body_;
  std::vector<Thread> threads_;
  ucontext_t scheduler_ = {};
  void* scheduler_state_ = nullptr;
  [[maybe_unused]] const void* scheduler_stack_ = nullptr;  // with the address sanitizer, and its size
  [[maybe_unused]] std::size_t scheduler_stack_bytes_ = 0;
  std::uint32_t running_ = 0;
  std::exception_ptr error_;
};

thread_local Block* t_block = nullptr;  // the innermost

FiberPool::~FiberPool() {
  for (const auto& fiber : all_) {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(fiber->stack, kStackBytes);  // whatever lies there next
#elif defined(__SANITIZE_THREAD__)
    __tsan_destroy_fiber(fiber->sanitizer_state);
#endif
    munmap(fiber->stack, kStackBytes);
  }
}

Fiber* FiberPool::take() {
  if (idle_.empty()) {
    auto fiber = std::make_unique<Fiber>();
    fiber->stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fiber->stack == MAP_FAILED) throw std::bad_alloc();
#if defined(__SANITIZE_THREAD__)
    fiber->sanitizer_state = __tsan_create_fiber(0);
#endif
    prepare(fiber.get());
    idle_.push_back(all_.emplace_back(std::move(fiber)).get());
  }
  Fiber* const fiber = idle_.back();
  idle_.pop_back();
  return fiber;
}

void FiberPool::prepare(Fiber* fiber) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fiber->stack, kStackBytes);  // of frames that were left by an error
#endif
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack;
  fiber->context.uc_stack.ss_size = kStackBytes;
  makecontext(&fiber->context, &Block::enter, 0);
  // The address sanitizer would forget at each switch what it knows of the whole stack, and takes long for it.
  fiber->context.uc_stack.ss_size = 0;
}

void Block::enter() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &t_block->scheduler_stack_, &t_block->scheduler_stack_bytes_);
#endif
  for (;;) {
    Fiber* const self = t_block->run_threads();
    t_fibers.give_back(self);
    t_block->switch_to_scheduler(self);  // and comes back with another block
  }
}

/// Runs the thread that is due, and those behind it that have not begun; the fiber on which it did.
Fiber* Block::run_threads() {
  Fiber* const self = threads_[running_].fiber;
  for (;;) {
    try {
      body_();
    } catch (...) {
      error_ = std::current_exception();  // thrown on by the scheduler: below this frame there is nobody
    }
    threads_[running_].state = State::kDone;
    threads_[running_].fiber = nullptr;
    const std::uint32_t next = running_ + 1;
    if (error_ != nullptr || next == threads_.size()) return self;
    if (threads_[next].state != State::kReady || threads_[next].fiber != nullptr) return self;
    running_ = next;
    threads_[next].fiber = self;
  }
}

void Block::go_on(std::uint32_t thread) {
  running_ = thread;
  if (threads_[thread].fiber == nullptr) threads_[thread].fiber = t_fibers.take();
  Fiber& fiber = *threads_[thread].fiber;
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

void Block::switch_to_scheduler(Fiber* fiber) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fiber->sanitizer_state, scheduler_stack_, scheduler_stack_bytes_);
#elif defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(scheduler_state_, 0);
#endif
  swapcontext(&fiber->context, &scheduler_);
#if defined(__SANITIZE_ADDRESS__)
  // Of the block that goes on now, which need not be this one: a scheduler may have been moved to another stack.
  __sanitizer_finish_switch_fiber(fiber->sanitizer_state, &t_block->scheduler_stack_, &t_block->scheduler_stack_bytes_);
#endif
}

// All threads have arrived at a barrier. Some that have ended leave the others waiting, on a device perhaps for ever.
bool Block::release_block() {
  std::size_t num_waiting = 0;
  for (const Thread& thread : threads_) num_waiting += thread.state == State::kAtBlockBarrier ? 1 : 0;
  if (num_waiting < threads_.size()) return false;
  for (Thread& thread : threads_) thread.state = State::kReady;
  if (t_observer != nullptr) t_observer->barrier();
  return true;
}

bool Block::release_warps() {
  bool is_released = false;
  for (std::size_t first = 0; first < threads_.size(); first += kWarpThreads) {
    const std::size_t end = std::min(first + kWarpThreads, threads_.size());
    bool has_all = true;
    for (std::size_t i = first; i < end; ++i) has_all = has_all && threads_[i].state == State::kAtWarpBarrier;
    if (!has_all) continue;
    for (std::size_t i = first; i < end; ++i) threads_[i].state = State::kReady;
    is_released = true;
  }
  return is_released;
}

void Block::run() {
  for (;;) {
    bool is_done = true;
    for (std::uint32_t thread = 0; thread < threads_.size(); ++thread) {
      if (threads_[thread].state == State::kReady) go_on(thread);
      if (error_ != nullptr) std::rethrow_exception(error_);
      is_done = is_done && threads_[thread].state == State::kDone;
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
  threads_[running_].vote = predicate;
  wait(State::kAtWarpBarrier);
  const std::size_t first = running_ / kWarpThreads * kWarpThreads;
  const std::size_t end = std::min<std::size_t>(first + kWarpThreads, threads_.size());
  bool result = false;
  for (std::size_t i = first; i < end; ++i) result = result || threads_[i].vote;
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
