// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// usage: gpu_probe     prints what the library sees of each device, a line of JSON each
#include <fmt/format.h>

#include <cstdio>

#include "src/device/device.h"

int main() {
  const auto count = reshard::num_devices();
  if (!count.ok()) {
    fmt::print(stderr, "gpu_probe: {}\n", count.status().message());
    return 1;
  }
  for (std::int32_t device = 0; device < *count; ++device) {
    const reshard::Status usable = reshard::check_device(device);
    const auto info = reshard::device_info(device);
    if (!usable.ok() || !info.ok()) {
      fmt::print(stderr, "gpu_probe: {}\n", usable.ok() ? info.status().message() : usable.message());
      return 1;
    }
    fmt::print(
        "{{\"device\": {}, \"name\": \"{}\", \"compute_capability\": \"{}.{}\", \"multiprocessors\": {}, \"l2_bytes\": "
        "{}, "
        "\"memory_bytes\": {}}}\n",
        device, info->name, info->major, info->minor, info->num_sms, info->l2_bytes, info->memory_bytes);
  }
}
