// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/exec/buffer_memory.h"
#include "tests/unit/exec/device_memory.h"

namespace reshard::testing {

std::int32_t device_of(std::int32_t) {
  return 0;
}

void choose_driver(BindOptions* options, std::int32_t device) {
  options->make_copier = cuda_copier_maker(device, options->transport);
}

bool is_on_streams() {
  return false;
}

}  // namespace reshard::testing
