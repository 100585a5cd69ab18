// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// NCCL is found at run time and never linked: the library that a job uses is the one that its framework brought, and a
// machine without it runs everything else. No header of this room includes one of NCCL or CUDA.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "src/base/status.h"

namespace reshard {

/// What a version of NCCL can do that not all of those that are taken can. Versions as NCCL codes them: 22809
/// is 2.28.9.
struct NcclFeatures {
  /// Kernels of one group go on counting rounds where the last one ended, so that a group may have any number of
  /// operations. Before, each kernel of a group began again at its own first operation, two ends that cut a group at
  /// different places waited for each other for ever, and only a group that fits one kernel is sure to end.
  bool carries_rounds = false;
  /// Several ranks of a communicator may be on one device (NCCL_MULTI_RANK_GPU_ENABLE=1, and few CTAs for each).
  bool shares_devices = false;
};
NcclFeatures nccl_features(std::int32_t version);

/// The most channels that any version spreads an operation over, one CTA (a block on an SM) for each.
inline constexpr std::int32_t kNcclMostChannels = 64;

/// Operations, sends and receives together, of a group that is sure to be one kernel; 0: any number. A kernel's
/// arguments hold 254 batches; an operation begins at most one on each channel it is spread over, and NCCL begins a new
/// kernel unless there is room for that. `max_ctas`: what the communicator was made with.
std::int64_t nccl_max_group_operations(std::int32_t version, std::int32_t max_ctas);

/// "2.28.9" for 22809
std::string nccl_version_text(std::int32_t version);

struct NcclFunctions;  // the table, in a header of this room's sources alone

/// A library of NCCL that is in this process, for good: it is never unloaded, since threads of it may live on.
class NcclLibrary {
 public:
  static constexpr const char* kDefaultName = "libnccl.so.2";
  static constexpr std::int32_t kMinVersion = 22800;

  /// The library of that file name or path; empty: kDefaultName. Loaded on the first call, the same object on every
  /// later one, any thread. A name without a slash finds the library that the process has loaded already, under the
  /// same name, wherever it came from: so a framework's communicator and this table belong to the same one.
  /// RESHARD_ERR_NOT_SUPPORTED, with what was found and what is needed: a build without NCCL's header, no such library,
  /// one older than kMinVersion, one that lacks a function.
  static Result<std::shared_ptr<const NcclLibrary>> load(const std::string& name);

  ~NcclLibrary();
  NcclLibrary(const NcclLibrary&) = delete;
  NcclLibrary& operator=(const NcclLibrary&) = delete;

  std::int32_t version() const { return version_; }
  NcclFeatures features() const { return nccl_features(version_); }
  const std::string& path() const { return path_; }  ///< the file that it was loaded from
  std::string text() const;                          ///< "NCCL 2.28.9 (/usr/lib/.../libnccl.so.2)"

  /// ncclCommRevoke, from 2.28.7 on: ends a communicator's work and leaves the communicator to be destroyed.
  bool has_revoke() const;

  /// RESHARD_ERR_INVALID_ARGUMENT when the process has a library of kDefaultName that is another one than this: then a
  /// communicator that the process gives is not this library's.
  Status check_is_the_loaded_one() const;

  const NcclFunctions& functions() const { return *functions_; }

 private:
  NcclLibrary();
  friend struct NcclLoader;
  std::unique_ptr<NcclFunctions> functions_;
  std::string path_;
  std::int32_t version_ = 0;
};

}  // namespace reshard
