// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/cuda/control.h"
#include "tests/doubles/nccl/control.h"
#include "tests/unit/exec/buffer_memory.h"
#include "tests/unit/exec/device_memory.h"

namespace reshard::testing {
namespace {

// NCCL takes one rank per device.
[[maybe_unused]] const bool g_has_devices = [] {
  cuda_double_set_devices(64);
  return true;
}();

}  // namespace

std::int32_t device_of(std::int32_t rank) {
  return rank;
}

void choose_driver(BindOptions* options, std::int32_t device) {
  if (!options->nccl.has_value()) options->nccl.emplace();
  options->nccl->device = device;
}

bool is_on_streams() {
  return true;
}

}  // namespace reshard::testing
