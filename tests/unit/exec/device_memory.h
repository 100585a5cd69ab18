// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>

#include "src/exec/bind.h"

namespace reshard::testing {

// What programs on the memory of a device differ in: poll_on_device.cc and run_on_streams.cc each have both.

/// The device of a rank's buffers.
std::int32_t device_of(std::int32_t rank);

/// Has a binding of buffers on the device driven in the program's way.
void choose_driver(BindOptions* options, std::int32_t device);

/// From now on peers can map nothing of this device but tensors, so not the flags of streams. -1: of none is it so.
inline constexpr std::int32_t kAllRanks = -2;
void forbid_mapping_flags(std::int32_t device);

}  // namespace reshard::testing
