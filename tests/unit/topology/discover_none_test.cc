// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>

#include "topology/discover/discover.h"

namespace reshard {
namespace {

TEST(DiscoveryHere, SaysThatItTakesHwloc) {
  EXPECT_EQ(discover_node().status().code(), RESHARD_ERR_NOT_SUPPORTED);
}

}  // namespace
}  // namespace reshard
