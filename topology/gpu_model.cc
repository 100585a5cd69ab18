// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The numbers that no file says: what a link of a generation carries, and how much of that transfers reach. Each has
// its source beside it. They are where estimates begin; a cluster file can replace every one of them.
#include "topology/gpu_model.h"

#include <array>
#include <utility>

namespace reshard {
namespace {

// A copy over NVLink starts within 1 to 4 us; the upper end, as kernels of NCCL measure it.
constexpr std::int32_t kNvlinkLatencyNs = 4000;
constexpr std::int32_t kLowestNvlinkPermille = 800;  // of those below

// Speed of one link and direction: the data sheets' totals over both directions and all links (600 GB/s over 12 for
// A100, 900 over 18 for H100, 1800 over 18 for B200), halved. Efficiency: what NCCL's tuning expects of a link, 20.0 of
// 25 GB/s for NVLink 3, 20.6 of 25 for NVLink 4, 40.1 of 50 for NVLink 5, rounded down to 370 of 450 and 720 of 900
// GB/s. Memory: the data sheets of P100, V100, A100 80 GB, A40, L40S, H100 SXM, B200 and B300. Multicast by the switch
// (NVLink SHARP, from the third generation of the switch on): what NCCL's tuning expects of it, 0.85 of the links on
// Hopper and 0.74 on Blackwell.
constexpr std::array<GpuModel, 8> kModels = {{
    {60, 4, {20'000'000'000, 900, kNvlinkLatencyNs}, 732'000'000'000},
    {70, 6, {25'000'000'000, 800, kNvlinkLatencyNs}, 900'000'000'000},
    {80, 12, {25'000'000'000, 800, kNvlinkLatencyNs}, 2'039'000'000'000},
    {86, 4, {14'062'500'000, 850, kNvlinkLatencyNs}, 696'000'000'000},
    {89, 0, {}, 864'000'000'000},  // L40S
    {90, 18, {25'000'000'000, 822, kNvlinkLatencyNs}, 3'350'000'000'000, 850},
    {100, 18, {50'000'000'000, 800, kNvlinkLatencyNs}, 7'700'000'000'000, 740},
    {103, 18, {50'000'000'000, 800, kNvlinkLatencyNs}, 8'000'000'000'000, 740},
}};
// Like sm 9.0 and sm 10.0, but with more memory bandwidth: data sheets of H200 and of GB200.
constexpr GpuModel kH200 = {90, 18, {25'000'000'000, 822, kNvlinkLatencyNs}, 4'800'000'000'000, 850};
constexpr GpuModel kGb200 = {100, 18, {50'000'000'000, 800, kNvlinkLatencyNs}, 8'000'000'000'000, 740};

// Copies within a GPU's memory reach 80 to 90 % of what its data sheet says, reads and writes counted together.
constexpr std::int32_t kMemoryEfficiencyPermille = 800;

// Lane speed after line coding, times the width.
constexpr std::array<std::int64_t, 6> kPcieBytesPerSPerLane = {250'000'000,   500'000'000,   984'375'000,
                                                               1'968'750'000, 3'937'500'000, 7'875'000'000};
// NCCL counts on 12, 24, 48 and 96 GB/s of 16 lanes of generations 3 to 6, which is 76.2 % of 15.75, 31.5, 63 and 126.
constexpr std::int32_t kPcieEfficiencyPermille = 762;

// Measurements of tuned RDMA lie between 88 and 96 % of a NIC; 46 of 50 GB/s is usual.
constexpr std::int32_t kNicEfficiencyPermille = 920;
// An RDMA write takes 5 us, with a proxy thread on the way about 10; half of it at each end.
constexpr std::int32_t kNicLatencyNs = 5000;

}  // namespace

const GpuModel* find_gpu_model(std::int32_t sm) {
  constexpr std::int32_t kFirstUnknown = 110;  // from here on generations have no NVLink, or are yet to come
  const GpuModel* best = nullptr;
  if (sm >= kFirstUnknown) return best;
  // The newest of those not younger than what is asked for: a chip of the same generation has the same links.
  for (const GpuModel& model : kModels) {
    if (model.sm <= sm) best = &model;
  }
  return best;
}

const GpuModel* find_gpu_device(std::uint32_t device) {
  switch (device) {
    case 0x20b0:  // A100 SXM4 40 GB
    case 0x20b2:  // A100 SXM4 80 GB
    case 0x20b3:
      return find_gpu_model(80);
    case 0x2330:  // H100 SXM5
    case 0x2324:  // H800
      return find_gpu_model(90);
    case 0x2335:
      return &kH200;
    case 0x2901:  // B200
      return find_gpu_model(100);
    case 0x2941:
      return &kGb200;
    case 0x3182:  // B300
    case 0x31c2:  // GB300
      return find_gpu_model(103);
    default:
      return nullptr;
  }
}

Link nvlinks(const GpuModel& model, std::int64_t count) {
  Link link = model.nvlink;
  link.nominal_bytes_per_s *= count;
  return link;
}

Link explicit_link(std::int64_t bytes_per_s) {
  return {bytes_per_s, kLowestNvlinkPermille, kNvlinkLatencyNs};
}

Link memory_link(std::int64_t bytes_per_s) {
  return {bytes_per_s, kMemoryEfficiencyPermille, 0};
}

Link pcie_link(std::int32_t generation, std::int32_t width) {
  if (generation < 1 || generation > static_cast<std::int32_t>(kPcieBytesPerSPerLane.size()) || width < 1) return {};
  return {kPcieBytesPerSPerLane.at(static_cast<std::size_t>(generation - 1)) * width, kPcieEfficiencyPermille, 0};
}

Link nic_link(std::int64_t bytes_per_s) {
  return {bytes_per_s, kNicEfficiencyPermille, kNicLatencyNs};
}

std::int64_t nic_bytes_per_s(std::uint32_t vendor, std::uint32_t device) {
  constexpr std::uint32_t kMellanox = 0x15b3;
  constexpr std::uint32_t kAmazon = 0x1d0f;
  if (vendor == kMellanox) {
    switch (device) {
      case 0x101b:  // ConnectX-6
      case 0x101c:
        return 25'000'000'000;
      case 0x1021:  // ConnectX-7
      case 0x101e:
        return 50'000'000'000;
      case 0x1023:  // ConnectX-8
        return 100'000'000'000;
      default:
        return 0;
    }
  }
  return vendor == kAmazon && (device == 0xefa0 || device == 0xefa1) ? 12'500'000'000 : 0;
}

}  // namespace reshard
