// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "kernels/rows.h"

namespace reshard::testing {

/// Runs a test once per instruction set; one that this processor lacks is skipped, visibly.
class KernelsTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string name = GetParam();
    kernels_ = name == "avx2" ? avx2_row_kernels() : &generic_row_kernels();
    if (kernels_ == nullptr) GTEST_SKIP() << "this processor has no " << name;
  }
  const RowKernels& kernels() const { return *kernels_; }

 private:
  const RowKernels* kernels_ = nullptr;
};

inline std::string kernels_name(const ::testing::TestParamInfo<const char*>& info) {
  return info.param;
}

#define RESHARD_INSTANTIATE_KERNELS(suite) \
  INSTANTIATE_TEST_SUITE_P(Kernels, suite, ::testing::Values("generic", "avx2"), reshard::testing::kernels_name)

}  // namespace reshard::testing
