// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>

#include "topology/machine.h"

namespace reshard {

/// What a generation of GPUs brings, whoever reports it: a preset, an NCCL file or NVML.
struct GpuModel {
  std::int32_t sm = 0;  ///< compute capability, 90 for 9.0
  std::int32_t num_nvlinks = 0;
  Link nvlink;                          ///< of one link, each direction
  std::int64_t memory_bytes_per_s = 0;  ///< what its data sheet says, reads and writes together
  std::int32_t multicast_permille = 0;  ///< Machine::Gpu::multicast_permille, where a switch joins such GPUs
};

/// By compute capability: the newest generation that is not newer. nullptr below 6.0 and above 10.x.
const GpuModel* find_gpu_model(std::int32_t sm);
/// By PCI device id of vendor 10de; nullptr for one that is not listed.
const GpuModel* find_gpu_device(std::uint32_t device);

/// All of a GPU's links together.
Link nvlinks(const GpuModel& model, std::int64_t count);

/// NVLink, to a GPU or to its CPU, of which only the speed is known: with the lowest efficiency that planning counts on
/// of any NVLink.
Link explicit_link(std::int64_t bytes_per_s);

/// Memory of a GPU of which the speed of its data sheet is known; kUnlimited stays so.
Link memory_link(std::int64_t bytes_per_s);

/// PCIe of a generation 1 to 6 and a width in lanes.
Link pcie_link(std::int32_t generation, std::int32_t width);

/// A NIC of this speed: what tuned RDMA reaches of it, and half of a message's latency at each end.
Link nic_link(std::int64_t bytes_per_s);

/// The speed of a NIC by PCI vendor and device id; 0 for one that is not listed.
std::int64_t nic_bytes_per_s(std::uint32_t vendor, std::uint32_t device);

}  // namespace reshard
