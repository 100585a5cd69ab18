// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// NVIDIA's own library, where there is one: that it loads, with every function, and that what this room thinks of its
// version is what the library does. A program of its own, since no other library of that name may be in the process.
#include <gtest/gtest.h>

#include "src/transport/nccl/library.h"

namespace reshard {
namespace {

TEST(RealNcclTest, LoadsAndTellsItsVersion) {
  const auto library = NcclLibrary::load("");
  if (!library.ok()) GTEST_SKIP() << library.status().message();
  EXPECT_GE((*library)->version(), NcclLibrary::kMinVersion);
  EXPECT_EQ((*library)->has_revoke(), (*library)->version() >= 22807) << (*library)->text();
  EXPECT_TRUE((*library)->check_is_the_loaded_one().ok());
}

}  // namespace
}  // namespace reshard
