// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What discovery asks of the driver and nothing more. Numbers are kept as the driver gives them; what they mean for a
// plan (speeds, groups) is worked out in discover.cc.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/status.h"

namespace reshard {

/// A GPU as NVML describes it.
struct NvmlGpu {
  std::uint32_t domain = 0;  ///< PCI address
  std::uint32_t bus = 0;
  std::uint32_t slot = 0;
  std::uint32_t pci_device = 0;  ///< PCI device id
  std::int32_t sm = 0;           ///< compute capability, 90 for 9.0
  std::int32_t pcie_generation = 0;
  std::int32_t pcie_width = 0;
  std::int64_t switch_links = 0;          ///< active NVLinks to switches
  std::vector<std::string> peer_links{};  ///< for each other active one, the address of the GPU it leads to
  std::string fabric{};                   ///< cluster and clique of an NVLink domain across nodes; "": none
};

/// "0000:1b:00"
std::string pci_address(std::uint32_t domain, std::uint32_t bus, std::uint32_t slot);

/// The GPUs of this node in NVML's order; none where the library is not there or finds no driver.
/// Errors: RESHARD_ERR_INTERNAL for a library without a function that this needs, or a call that fails.
Result<std::vector<NvmlGpu>> nvml_gpus(const std::string& library);

}  // namespace reshard
