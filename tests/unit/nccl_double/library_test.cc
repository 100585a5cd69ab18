// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The doubles as tools find them: libraries with local names, neither of them linked.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <nccl.h>

namespace {

TEST(NcclDoubleLibraryTest, FindsTheDoubleOfCudaInsideALibraryOfLocalNames) {
  void* const reshard = dlopen(RESHARD_ON_DOUBLE, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(reshard, nullptr) << dlerror();
  void* const nccl = dlopen(NCCL_DOUBLE, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(nccl, nullptr) << dlerror();
  const auto get_version = reinterpret_cast<decltype(&ncclGetVersion)>(dlsym(nccl, "ncclGetVersion"));
  ASSERT_NE(get_version, nullptr);
  int version = 0;
  EXPECT_EQ(get_version(&version), ncclSuccess);
  EXPECT_EQ(version, 22809);
  EXPECT_NE(dlsym(nccl, "ncclCommRevoke"), nullptr);
}

}  // namespace
