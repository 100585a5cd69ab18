// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/cuda/seam.h"

#include <utility>

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

void enqueue_unseen(const std::shared_ptr<StreamState>& stream, Work work) {
  std::function<void(const char*)> watcher = std::exchange(stream->on_use, nullptr);
  enqueue(stream, std::move(work));
  stream->on_use = std::move(watcher);
}

class SeamOfThisProcess : public Seam {
 public:
  std::recursive_mutex& mutex() override { return State::get().mutex; }
  int current_device() override { return ensured_device(); }
  int device_of(void* stream) override {
    const auto found = stream_of(stream);
    return found == nullptr ? -1 : found->device;
  }
  bool is_capturing(void*) override { return false; }

  bool enqueue(const std::vector<void*>& streams, const char* what, const std::vector<MakeWork>& pieces) override {
    const auto first = stream_of(streams.front());
    std::vector<Mark> after;
    for (void* const handle : streams) {
      const auto stream = stream_of(handle);
      if (stream == nullptr) return false;
      if (stream != first) after.push_back(stream->mark(stream));
    }
    for (const MakeWork& make : pieces) enqueue_unseen(first, {what, make(), std::exchange(after, {})});
    for (void* const handle : streams) {
      const auto stream = stream_of(handle);
      if (stream != first) enqueue_unseen(stream, {what, [] { return true; }, {first->mark(first)}});
    }
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
