// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Streams and events. Work in one stream runs in order; work in two runs in any order, at the same time or one after
// the other, unless one waits for an event of the other.
#pragma once

#include <cstdint>
#include <utility>

#include "src/base/status.h"

namespace reshard {

class Event;

/// A queue of work of one device: its own, or borrowed from the caller. Movable; one thread at a time.
class Stream {
 public:
  /// A new one that does not wait for the legacy default stream. The destructor lets what is queued run to its end.
  static Result<Stream> create(std::int32_t device);

  /// The caller's cudaStream_t; null is the default stream of the device. It stays the caller's and must outlive this
  /// object. RESHARD_ERR_INVALID_ARGUMENT when it is a stream of another device.
  static Result<Stream> borrow(void* handle, std::int32_t device);

  Stream(Stream&& other) noexcept
      : handle_(other.handle_), device_(other.device_), is_own_(std::exchange(other.is_own_, false)) {}
  Stream& operator=(Stream&& other) noexcept;
  ~Stream();

  void* handle() const { return handle_; }  ///< a cudaStream_t
  std::int32_t device() const { return device_; }

  /// What is queued from now on runs after the last record of `event`. An event that was never recorded holds up
  /// nothing.
  Status wait(const Event& event) const;

  /// Whether all that is queued is done. Reports errors of work that was queued before.
  Result<bool> is_done() const;

  /// Blocks until all that is queued is done.
  Status synchronize() const;

  /// Whether what is queued now becomes part of a graph and does not run. RESHARD_ERR_INVALID_STATE where the capture
  /// has been spoiled already, by a call that must not be made during one.
  Result<bool> is_capturing() const;

 private:
  Stream(void* handle, std::int32_t device, bool is_own) : handle_(handle), device_(device), is_own_(is_own) {}
  void* handle_;
  std::int32_t device_;
  bool is_own_;
};

/// A mark in a stream. Recording it again moves it; waits that were queued before keep the place they saw. Movable; one
/// thread at a time.
class Event {
 public:
  /// Without time stamps, which makes it cheap to record and to query.
  static Result<Event> create(std::int32_t device);

  Event(Event&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)), device_(other.device_) {}
  Event& operator=(Event&& other) noexcept;
  ~Event();

  void* handle() const { return handle_; }  ///< a cudaEvent_t
  std::int32_t device() const { return device_; }

  /// Behind what the stream holds now. The stream must be one of this event's device.
  Status record(const Stream& stream);

  /// Whether what was before the last record is done; true when there was none. Reports errors of that work.
  Result<bool> is_done() const;

  /// Blocks until it is.
  Status synchronize() const;

 private:
  Event(void* handle, std::int32_t device) : handle_(handle), device_(device) {}
  void* handle_;
  std::int32_t device_;
};

}  // namespace reshard
