// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#ifdef RESHARD_HAVE_UCX
#include <gtest/gtest.h>

#include "src/transport/ucx.h"
#include "tests/unit/transport/ranks.h"

namespace reshard::test {
namespace {

/// A world of one rank that uses these devices only. In a process of its own: UCX does not survive a fork.
Verdict connect_with(const std::string& net_devices, reshard_status_t expected) {
  return run_processes(1, [&](std::int32_t) -> Verdict {
    setenv("UCX_TLS", "self,tcp", 1);
    const auto id = create_unique_id(nullptr);
    RESHARD_REQUIRE_OK(id);
    const Deadline deadline(kPatienceUs);
    auto bootstrap = create_tcp_bootstrap(*id, 0, 1, deadline);
    RESHARD_REQUIRE_OK(bootstrap);
    const auto transport = create_ucx_transport(bootstrap.take(), net_devices, deadline);
    const reshard_status_t code = transport.ok() ? RESHARD_OK : transport.status().code();
    RESHARD_REQUIRE(code == expected);
    RESHARD_REQUIRE(transport.ok() || transport.status().message().find(net_devices) != std::string::npos);
    return {};
  });
}

TEST(NetDevicesTest, DevicesThatUcxHasNotGotAreNamed) {
  EXPECT_EQ(connect_with("nosuch0,nosuch1", RESHARD_ERR_INVALID_ARGUMENT), "");
  EXPECT_EQ(connect_with("l", RESHARD_ERR_INVALID_ARGUMENT), "");
}

TEST(NetDevicesTest, OneOfThemIsEnough) {
  EXPECT_EQ(connect_with("lo", RESHARD_OK), "");
  EXPECT_EQ(connect_with("nosuch0,lo", RESHARD_OK), "");
}

}  // namespace
}  // namespace reshard::test
#endif
