// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Where the buffers of these tests lie. There are two of it, and each program links one: host_memory.cc, and
// device_memory.cc on the double of the CUDA runtime. So the same tests say that a run is right on both.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "src/exec/bind.h"

namespace reshard::testing {

/// A piece of memory that is bound, and its image on the host, which a test writes and looks at. On the host they are
/// the same.
class BufferMemory {
 public:
  /// is_mappable: peers can read it in place.
  static std::unique_ptr<BufferMemory> allocate(Transport* transport, std::size_t size_bytes, bool is_mappable);
  virtual ~BufferMemory() = default;

  virtual std::byte* bound() const = 0;
  virtual std::byte* image() = 0;

  /// Bytes [begin, begin + size_bytes) of the image become what is bound: when it returns, or (is_queued) in
  /// callers_stream() some time later. The image must stay until then.
  virtual void publish(std::size_t begin, std::size_t size_bytes, bool is_queued) = 0;
  virtual void fetch() = 0;  ///< what is bound becomes the image
};

bool is_on_device();
bool is_on_streams();  ///< with StreamDriver, whose bindings do no other run after one that failed

/// The stream of this thread on which publish() queues; null on the host.
void* callers_stream();

/// Draws the order anew in which work in streams is done.
void seed_streams(std::uint64_t seed);

/// Says who copies between such buffers, unless the options say it already.
void choose_memory(BindOptions* options);

}  // namespace reshard::testing
