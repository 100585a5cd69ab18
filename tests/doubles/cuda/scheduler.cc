// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/cuda/scheduler.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <set>
#include <thread>

#include <fmt/format.h>

#include "tests/doubles/cuda/capture.h"
#include "tests/doubles/cuda/memory.h"
#include "tests/doubles/cuda/state.h"

namespace cuda_double {
namespace {

struct Scheduler {
  // All with a handle, and those without that have work left; in the order in which they were made, so that a seed
  // means the same in every run.
  std::vector<std::shared_ptr<StreamState>> streams;
  std::set<void*> stream_handles;  // each the address of a shared_ptr to its stream
  std::array<std::shared_ptr<StreamState>, kMaxDevices> legacy;
  // How this seed goes about it.
  std::uint64_t eager_percent = 0;  // of enqueues that are followed by work
  std::uint64_t lazy_percent = 0;   // of queries that do nothing
  std::int64_t steady_for = 0;      // pieces of work between two draws of the priorities; 0: never
  std::int64_t since_draw = 0;
  std::int64_t num_steps = 0;
  bool is_running = false;  // a piece of work, at this moment

  Scheduler() { draw_habits(); }
  void draw_habits();
  static Scheduler& get() {
    static auto& scheduler = *new Scheduler;
    return scheduler;
  }
};

std::uint64_t random_below(std::uint64_t bound) {
  return State::get().random() % bound;
}

void Scheduler::draw_habits() {
  static constexpr std::array<std::uint64_t, 4> kPercents{0, 20, 50, 80};
  static constexpr std::array<std::int64_t, 4> kSteady{0, 0, 32, 4};
  eager_percent = kPercents.at(random_below(4));
  lazy_percent = kPercents.at(random_below(4));
  steady_for = kSteady.at(random_below(4));
  since_draw = 0;
}

bool can_go_on(const StreamState& stream) {
  return !stream.queue.empty() && std::all_of(stream.queue.front().after.begin(), stream.queue.front().after.end(),
                                              [](const Mark& mark) { return mark.is_done(); });
}

/// The stream that is to work next; none of `stalled`, whose kernels wait for something.
std::shared_ptr<StreamState> next_stream(const std::set<StreamState*>& stalled) {
  std::shared_ptr<StreamState> best;
  for (const auto& stream : Scheduler::get().streams) {
    if (stalled.count(stream.get()) != 0 || !can_go_on(*stream)) continue;
    if (!best || stream->priority > best->priority) best = stream;
  }
  return best;
}

void draw_priorities() {
  for (const auto& stream : Scheduler::get().streams) stream->priority = State::get().random();
}

void end_first(const std::shared_ptr<StreamState>& stream) {
  ++stream->num_completed;
  stream->queue.pop_front();
  Scheduler& scheduler = Scheduler::get();
  if (stream->is_inner && stream->queue.empty()) std::erase(scheduler.streams, stream);
  ++scheduler.num_steps;
  if (scheduler.steady_for == 0 || ++scheduler.since_draw < scheduler.steady_for) return;
  scheduler.since_draw = 0;
  draw_priorities();
}

/// One piece of work of some stream; false: none can go on.
bool do_one() {
  std::set<StreamState*> stalled;
  std::int64_t num_steps = Scheduler::get().num_steps;
  while (true) {
    const std::shared_ptr<StreamState> stream = next_stream(stalled);
    if (stream == nullptr) {
      if (Scheduler::get().num_steps == num_steps) return false;
      num_steps = Scheduler::get().num_steps;
      stalled.clear();
      continue;
    }
    State& state = State::get();
    if (state.failing_work.left == 1) {
      state.failing_work.left = 0;
      lose_everything(state.failing_work.code);
      return true;
    }
    Scheduler::get().is_running = true;
    const bool is_done = stream->queue.front().run();
    Scheduler::get().is_running = false;
    if (state.lost_code != 0) {  // by this very piece, whose queue could not go while it ran
      lose_everything(state.lost_code);
      return true;
    }
    if (is_done) {
      if (state.failing_work.left > 1) --state.failing_work.left;
      end_first(stream);
      return true;
    }
    stalled.insert(stream.get());
  }
}

bool is_anything_queued() {
  const auto& streams = Scheduler::get().streams;
  return std::any_of(streams.begin(), streams.end(), [](const auto& stream) { return !stream->queue.empty(); });
}

/// Lets another thread or process work. The lock is held once here, or twice.
void rest() {
  std::recursive_mutex& mutex = State::get().mutex;
  mutex.unlock();
  std::this_thread::sleep_for(std::chrono::microseconds(50));
  mutex.lock();
}

template <typename IsDone>
void work_while_not(IsDone is_done, const char* what) {
  while (!is_done()) {
    if (do_one()) continue;
    close_all();
    if (!is_anything_queued()) defect(fmt::format("{} waits for work that nobody queued", what));
    rest();
  }
  close_all();
}

}  // namespace

bool Mark::is_done() const {
  return stream == nullptr || stream->num_completed >= number;
}

std::shared_ptr<StreamState> stream_of(void* handle) {
  Scheduler& scheduler = Scheduler::get();
  const auto number = reinterpret_cast<std::uintptr_t>(handle);
  if (number <= 2) {  // null, cudaStreamLegacy, cudaStreamPerThread
    const int device = current_device();
    auto& legacy = scheduler.legacy.at(static_cast<std::size_t>(device));
    if (!legacy) {
      legacy = std::make_shared<StreamState>();
      legacy->device = device;
      legacy->is_legacy = true;
      legacy->priority = State::get().random();
      scheduler.streams.push_back(legacy);
    }
    return legacy;
  }
  if (scheduler.stream_handles.count(handle) == 0) return nullptr;
  return *static_cast<std::shared_ptr<StreamState>*>(handle);
}

void* add_stream(int device, bool is_blocking) {
  auto stream = std::make_shared<StreamState>();
  stream->device = device;
  stream->is_blocking = is_blocking;
  stream->priority = State::get().random();
  Scheduler& scheduler = Scheduler::get();
  scheduler.streams.push_back(stream);
  void* const handle = new std::shared_ptr<StreamState>(std::move(stream));
  scheduler.stream_handles.insert(handle);
  return handle;
}

bool remove_stream(void* handle) {
  Scheduler& scheduler = Scheduler::get();
  if (scheduler.stream_handles.erase(handle) == 0) return false;
  delete static_cast<std::shared_ptr<StreamState>*>(handle);
  // Streams whose handle is gone leave when their work is done.
  std::set<StreamState*> with_handle;
  for (void* other : scheduler.stream_handles) {
    with_handle.insert(static_cast<std::shared_ptr<StreamState>*>(other)->get());
  }
  std::erase_if(scheduler.streams, [&](const auto& stream) {
    return !stream->is_legacy && !stream->is_inner && stream->queue.empty() && with_handle.count(stream.get()) == 0;
  });
  return true;
}

std::int64_t num_streams_and_events() {
  return static_cast<std::int64_t>(Scheduler::get().stream_handles.size()) + num_events();
}

std::int64_t num_queued() {
  std::int64_t sum = 0;
  for (const auto& stream : Scheduler::get().streams) sum += static_cast<std::int64_t>(stream->queue.size());
  return sum;
}

std::shared_ptr<StreamState> add_inner_stream(int device) {
  auto stream = std::make_shared<StreamState>();
  stream->device = device;
  stream->is_inner = true;
  stream->priority = State::get().random();
  Scheduler::get().streams.push_back(stream);
  return stream;
}

void push(const std::shared_ptr<StreamState>& stream, Work work) {
  stream->queue.push_back(std::move(work));
  ++stream->num_enqueued;
}

void note_use(const StreamState& stream, const char* what) {
  if (stream.on_use) stream.on_use(what);
}

void enqueue(const std::shared_ptr<StreamState>& stream, Work work) {
  note_use(*stream, work.what);
  if (stream->capture != nullptr) {
    stream->capture->add(stream.get(), std::move(work));
    return;
  }
  Scheduler& scheduler = Scheduler::get();
  for (const auto& other : scheduler.streams) {
    const bool is_ordered = other->device == stream->device &&
                            ((stream->is_legacy && other->is_blocking) || (stream->is_blocking && other->is_legacy));
    if (is_ordered) work.after.push_back(other->mark(other));
  }
  push(stream, std::move(work));
  if (random_below(100) < scheduler.eager_percent) do_some();
}

void do_some() {
  if (random_below(100) < Scheduler::get().lazy_percent) return;
  const std::uint64_t most = random_below(4) == 0 ? 64 : 1 + random_below(4);
  for (std::uint64_t count = 0; count < most && do_one(); ++count) {
  }
  close_all();
}

void work_until(const Mark& mark, const char* what) {
  work_while_not([&] { return mark.is_done(); }, what);
}

void work_until_idle(int device, const char* what) {
  work_while_not(
      [&] {
        const auto& streams = Scheduler::get().streams;
        return std::none_of(streams.begin(), streams.end(),
                            [&](const auto& stream) { return stream->device == device && !stream->queue.empty(); });
      },
      what);
}

void work_until(const std::function<bool()>& is_done) {
  while (!is_done()) {
    if (do_one()) continue;
    close_all();
    rest();
  }
  close_all();
}

void note_step() {
  ++Scheduler::get().num_steps;
}

std::int64_t num_steps() {
  return Scheduler::get().num_steps;
}

void lose_everything(int code) {
  State::get().lost_code = code;
  if (Scheduler::get().is_running) return;  // do_one() calls again
  for (const auto& stream : Scheduler::get().streams) {
    stream->queue.clear();
    stream->num_completed = stream->num_enqueued;
  }
  std::erase_if(Scheduler::get().streams, [](const auto& stream) { return stream->is_inner; });
}

void draw_habits() {
  Scheduler::get().draw_habits();
  draw_priorities();
}

}  // namespace cuda_double
