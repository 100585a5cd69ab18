// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "topology/presets.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>

#include "topology/gpu_model.h"

namespace reshard {
namespace {

struct Row {
  const char* name;
  std::int32_t num_gpus;         // of a node, each with a NIC of its own
  std::uint32_t gpu;             // its PCI device: gpu_model.h has its links and its memory
  std::int32_t pcie_generation;  // between GPU and NIC
  std::int64_t nic_bytes_per_s;
  std::int32_t domain_nodes;
};

// GPUs, NICs and PCIe: the makers' descriptions of these systems. NICs: ConnectX-6 of 200 Gbit/s for DGX A100;
// ConnectX-7 of 400 for H100, H200, B200 and, by the reference architecture of DGX GB200, GB200 too (some are built
// with ConnectX-8: nic=800gbit); ConnectX-8 of 800 for GB300. NVL72: 18 trays of 4 GPUs share one NVLink domain.
constexpr std::array<Row, 6> kRows = {{
    {"dgx-a100", 8, 0x20b2, 4, 25'000'000'000, 1},
    {"hgx-h100", 8, 0x2330, 5, 50'000'000'000, 1},
    {"hgx-h200", 8, 0x2335, 5, 50'000'000'000, 1},
    {"hgx-b200", 8, 0x2901, 5, 50'000'000'000, 1},
    {"gb200-nvl72", 4, 0x2941, 5, 50'000'000'000, 18},
    {"gb300-nvl72", 4, 0x31c2, 6, 100'000'000'000, 18},
}};

NodeType make_node(const Row& row) {
  const GpuModel& model = *find_gpu_device(row.gpu);
  NodeType node;
  node.name = row.name;
  for (std::int32_t i = 0; i < row.num_gpus; ++i) {
    node.ports.push_back({i, {{fmt::format("mlx5_{}", i), nic_link(row.nic_bytes_per_s)}}});
    node.gpus.push_back({0, i, nvlinks(model, model.num_nvlinks), pcie_link(row.pcie_generation, 16),
                         memory_link(model.memory_bytes_per_s), model.multicast_permille});
  }
  return node;
}

// Processes of a host copy through its memory at about what one core copies; no data sheet says it, so both speeds can
// be given. Its NIC is taken as 10 Gbit/s Ethernet, and as what it says, for shaped links reach their rate within 5 %.
NodeType make_host() {
  NodeType host;
  host.name = "host";
  host.shared_memory = {10'000'000'000, 1000, 1000};
  host.ports.push_back({0, {{"eth0", {1'250'000'000, 1000, 10'000}}}});
  return with_processes(host, 1);
}

}  // namespace

Result<Preset> find_preset(const std::string& name) {
  if (name == "host") return Preset{make_host(), 1};
  for (const Row& row : kRows) {
    if (name == row.name) return Preset{make_node(row), row.domain_nodes};
  }
  return invalid_argument(fmt::format("unknown node type \"{}\"; known are {}", name, fmt::join(preset_names(), ", ")));
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names = {"host"};
  for (const Row& row : kRows) names.emplace_back(row.name);
  return names;
}

}  // namespace reshard
