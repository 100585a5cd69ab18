// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>

#include "topology/host.h"

namespace reshard {
namespace {

TEST(HostWithoutHwloc, SaysThatTheBuildLacksIt) {
  EXPECT_EQ(discover_host().status().code(), RESHARD_ERR_NOT_SUPPORTED);
  EXPECT_EQ(host_from_xml("<topology/>").status().code(), RESHARD_ERR_NOT_SUPPORTED);
}

}  // namespace
}  // namespace reshard
