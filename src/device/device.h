// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The devices of this process, numbered from 0 as CUDA_VISIBLE_DEVICES leaves them. No header of this room includes one
// of CUDA: what is built on it compiles the same with and without the toolkit.
//
// Errors of the whole room: RESHARD_ERR_NOT_SUPPORTED where this build or this machine has no CUDA (no driver, a driver
// too old, no device, a device too old), and the message says what was found and what is needed;
// RESHARD_ERR_OUT_OF_MEMORY; RESHARD_ERR_INVALID_ARGUMENT for a device that is not there, and for memory or a stream of
// another one; RESHARD_ERR_TRANSPORT for everything else that CUDA reports, with the call, the code's name and its
// text.
#pragma once

#include <cstdint>
#include <string>

#include "src/base/status.h"

namespace reshard {

/// Whether this build has CUDA at all. False: everything else in this room reports RESHARD_ERR_NOT_SUPPORTED.
bool built_with_cuda();

/// At least 1, or the error that says why there is none.
Result<std::int32_t> num_devices();

struct DeviceInfo {
  std::int32_t index = 0;
  std::string name;        ///< "NVIDIA H100 80GB HBM3"
  std::int32_t major = 0;  ///< compute capability major.minor
  std::int32_t minor = 0;
  std::int32_t num_sms = 0;  ///< streaming multiprocessors
  std::int64_t l2_bytes = 0;
  std::int64_t memory_bytes = 0;  ///< all of it, not what is free
  std::string uuid;               ///< 32 hexadecimal digits; the same in every process, whatever it can see
};

Result<DeviceInfo> device_info(std::int32_t index);

/// Whether this library can work on the device: a driver that is recent enough, a device of that index, and compute
/// capability 8.0 or newer. A device newer than all that were compiled for is in order: the driver compiles the PTX.
Status check_device(std::int32_t index);

/// Makes a device the current one of this thread, and the caller's again at the end. The caller's context is restored
/// as it was, none included: a thread that had not used CUDA before does not get a context on device 0 from this.
///
/// Everything in this room that needs one makes its own; hold one around many calls to make those cheap.
class DeviceGuard {
 public:
  static Result<DeviceGuard> enter(std::int32_t device);
  DeviceGuard(DeviceGuard&& other) noexcept;
  DeviceGuard& operator=(DeviceGuard&&) = delete;
  ~DeviceGuard();

 private:
  DeviceGuard() = default;
  void* callers_context_ = nullptr;  // null: the thread had none
  bool is_changed_ = false;          // false: nothing to restore
};

}  // namespace reshard
