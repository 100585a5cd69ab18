// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>

#include "topology/host.h"

namespace reshard {
namespace {

TEST(HostText, NamesEveryDeviceOnOneLine) {
  const HostInfo host{.hostname = "h1",
                      .num_cores = 64,
                      .num_numa_nodes = 2,
                      .l3_bytes = 32 << 20,
                      .nics = {"eth0", "mlx5_0"},
                      .gpus = {"0000:12:00.0 10de:2330"}};
  EXPECT_EQ(to_string(host),
            "h1: 64 cores, 2 NUMA nodes, L3 32 MiB, 2 NICs (eth0, mlx5_0), 1 GPU (0000:12:00.0 10de:2330)");
}

TEST(HostText, SaysWhatIsMissing) {
  EXPECT_EQ(to_string(HostInfo{.hostname = "h2", .num_cores = 1, .num_numa_nodes = 1}),
            "h2: 1 core, 1 NUMA node, L3 0 MiB, no NICs, no GPUs");
}

}  // namespace
}  // namespace reshard
