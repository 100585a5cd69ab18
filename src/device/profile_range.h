// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Names for what a profiler (Nsight Systems) shows on the time line of a thread.
#pragma once

namespace reshard {

/// From construction to destruction, on this thread, in the domain "reshard". A few nanoseconds when no profiler is
/// attached; nothing in a build without CUDA. `name` is read before the constructor returns.
class ProfileRange {
 public:
  explicit ProfileRange(const char* name);
  ~ProfileRange();
  ProfileRange(const ProfileRange&) = delete;
  ProfileRange& operator=(const ProfileRange&) = delete;
};

}  // namespace reshard
