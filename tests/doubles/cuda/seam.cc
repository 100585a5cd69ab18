// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/cuda/seam.h"

#include <utility>

#include "tests/doubles/cuda/capture.h"
#include "tests/doubles/cuda/memory.h"
#include "tests/doubles/cuda/scheduler.h"
#include "tests/doubles/cuda/state.h"

namespace cuda_double {
namespace {

void* allocate(std::size_t size_bytes) {
  constexpr std::size_t kGranularity = 2 << 20;
  const Machine& machine = State::get().machine;
  const int device = ensured_device();
  const std::size_t mapped_bytes = (size_bytes + kGranularity - 1) / kGranularity * kGranularity;
  if (used_bytes(device) + mapped_bytes > machine.memory_bytes) return nullptr;
  ++State::get().counters.allocations;
  unsigned int handle_types = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  if (machine.has_fabric) handle_types |= static_cast<unsigned int>(CU_MEM_HANDLE_TYPE_FABRIC);
  auto segment = Segment::create(device, mapped_bytes, handle_types);
  Allocation& made = add_pages(reserve(mapped_bytes), std::move(segment), mapped_bytes);
  for (int other = 0; other < machine.num_devices; ++other) {
    if (other == device || machine.has_peer_access) made.access.insert(other);
  }
  return reinterpret_cast<void*>(made.base);
}

/// While it lives, whoever watches the stream is not told of its use.
class Unseen {
 public:
  explicit Unseen(std::shared_ptr<StreamState> stream)
      : stream_(std::move(stream)), watcher_(std::exchange(stream_->on_use, nullptr)) {}
  Unseen(Unseen&&) = default;
  ~Unseen() {
    if (stream_ != nullptr) stream_->on_use = std::move(watcher_);
  }
  const std::shared_ptr<StreamState>& stream() const { return stream_; }

 private:
  std::shared_ptr<StreamState> stream_;
  std::function<void(const char*)> watcher_;
};

/// The second stream waits for the first.
void join(const std::shared_ptr<StreamState>& before, const std::shared_ptr<StreamState>& after) {
  if (before == after) return;
  EventState event;
  (void)record_event(&event, before);
  (void)wait_event(after, event);
}

class SeamOfThisProcess : public Seam {
 public:
  std::recursive_mutex& mutex() override { return State::get().mutex; }
  int current_device() override { return ensured_device(); }
  int device_of(void* stream) override {
    const auto found = stream_of(stream);
    return found == nullptr ? -1 : found->device;
  }
  bool is_capturing(void* stream) override {
    const auto found = stream_of(stream);
    return found != nullptr && found->capture != nullptr;
  }

  bool enqueue(const std::vector<void*>& handles, const char* what, const std::vector<MakeWork>& pieces) override {
    std::vector<Unseen> streams;
    for (void* const handle : handles) {
      if (stream_of(handle) == nullptr) return false;
      streams.emplace_back(stream_of(handle));
    }
    const auto& first = streams.front().stream();
    for (const Unseen& other : streams) join(other.stream(), first);
    for (const MakeWork& make : pieces) {
      Work work{what, {}, {}, make};
      if (first->capture == nullptr) work.run = make();
      cuda_double::enqueue(first, std::move(work));
    }
    for (const Unseen& other : streams) join(first, other.stream());
    return true;
  }

  void watch_stream(void* stream, std::function<void(const char* what)> on_use) override {
    if (const auto found = stream_of(stream)) found->on_use = std::move(on_use);
  }
  void do_some() override { cuda_double::do_some(); }
  void work_until(const std::function<bool()>& is_done) override { cuda_double::work_until(is_done); }

  void open_range(const void* ptr, std::size_t size_bytes, const char* what) override {
    cuda_double::open_range(ptr, size_bytes, what);
  }
  void* allocate_pages(std::size_t size_bytes) override { return allocate(size_bytes); }
  bool free_pages(void* ptr) override {
    const Allocation* const found = find(ptr);
    const bool is_whole = found != nullptr && found->base == reinterpret_cast<std::uintptr_t>(ptr);
    if (!is_whole || found->kind != Kind::kPages) return false;
    remove(found->base);
    return true;
  }
  bool can_access(int device, const void* ptr, std::size_t size_bytes) override {
    return cuda_double::can_access(device, ptr, size_bytes);
  }
  void note_progress() override { cuda_double::note_step(); }
  std::int64_t num_steps() override { return cuda_double::num_steps(); }
  void lose_everything(int code) override { cuda_double::lose_everything(code); }
};

}  // namespace
}  // namespace cuda_double

extern "C" cuda_double::Seam* cuda_double_seam() {
  static auto* const seam = new cuda_double::SeamOfThisProcess;  // never destroyed, as the state that it stands for
  return seam;
}
