// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What the doubles of other libraries (NCCL) need of this one: they queue work into its streams and touch its memory.
// They are loaded by dlopen and look the one symbol below up, wherever the double of CUDA lies: in the program or in a
// library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "tests/doubles/cuda/control.h"

namespace cuda_double {

/// A piece of work in a stream: false means "not yet, call again".
using RunWork = std::function<bool()>;
/// Makes a piece of work from its start: called once for each time that it runs, so that a graph can be replayed.
using MakeWork = std::function<RunWork()>;

/// All but mutex() is called with the mutex held.
class Seam {
 public:
  virtual ~Seam() = default;
  virtual std::recursive_mutex& mutex() = 0;
  virtual int current_device() = 0;
  virtual int device_of(void* stream) = 0;  ///< -1: there is no such stream
  virtual bool is_capturing(void* stream) = 0;

  /// Queues the pieces into the first stream, one behind the other. The other streams wait for them, and they for
  /// those. False: a stream is not there any more. Whoever watches the streams is not told.
  virtual bool enqueue(const std::vector<void*>& streams, const char* what, const std::vector<MakeWork>& pieces) = 0;
  /// Calls this before anything is queued into the stream or recorded in it; null: no more.
  virtual void watch_stream(void* stream, std::function<void(const char* what)> on_use) = 0;

  virtual void do_some() = 0;  ///< a little of what is queued anywhere, as the seed has it
  /// Works until the condition holds; lets other threads work meanwhile.
  virtual void work_until(const std::function<bool()>& is_done) = 0;

  /// Opens memory for the present piece of work. Ends the process when it is not there.
  virtual void open_range(const void* ptr, std::size_t size_bytes, const char* what) = 0;
  /// Memory of the current device as the driver maps it, page by page; null: there is not enough.
  virtual void* allocate_pages(std::size_t size_bytes) = 0;
  virtual bool free_pages(void* ptr) = 0;  ///< false: it is no such memory
  virtual bool can_access(int device, const void* ptr, std::size_t size_bytes) = 0;

  /// Work that was not done in the end, but got on: others may be able to go on now.
  virtual void note_progress() = 0;
  /// Pieces of work done and steps noted so far, of all streams of this process.
  virtual std::int64_t num_steps() = 0;
  /// From now on every call of the runtime gives this code, as after a kernel that failed.
  virtual void lose_everything(int code) = 0;
};

}  // namespace cuda_double

extern "C" CUDA_DOUBLE_API cuda_double::Seam* cuda_double_seam(void);
