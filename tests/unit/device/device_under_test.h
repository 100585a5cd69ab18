// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/status.h"
#include "tests/doubles/cuda/control.h"

namespace reshard {

/// Each test begins and ends with a machine of four devices on which nothing was made.
class DeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    cuda_double_clear();
    cuda_double_seed(1);
    cuda_double_set_devices(4);
    cuda_double_set_driver(13000);
    cuda_double_set_capability(9, 0);
    cuda_double_set_memory(std::uint64_t{64} << 30);
    cuda_double_set_peer_access(1);
    cuda_double_set_fabric(0);
  }
  void TearDown() override {
    EXPECT_EQ(cuda_double_num_live(), 0) << "not given back";
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess) << "the next launch would report it";
  }
};

inline void expect_error(const Status& status, reshard_status_t code, const std::string& regex) {
  EXPECT_EQ(status.code(), code) << status.message();
  EXPECT_THAT(status.message(), testing::ContainsRegex(regex));
}

inline std::vector<int> peek_ints(const void* device_memory, std::size_t num_elements) {
  std::vector<int> out(num_elements);
  cuda_double_peek(out.data(), device_memory, num_elements * sizeof(int));
  return out;
}

}  // namespace reshard
