// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <reshard/reshard.h>

#include <array>
#include <functional>

namespace {

using ::testing::HasSubstr;

const char kSpec[] = R"({"version": 1, "ranks": 1, "tensors": [{"name": "w", "group": 0, "shape": [4],
  "src": {"dtype": "F32", "mesh": {"axes": [["x", 1]], "ranks": [0]}, "placements": ["replicate"]},
  "dst": {"dtype": "F32", "mesh": {"axes": [["x", 1]], "ranks": [0]}, "placements": ["replicate"]}}]})";

/// A plan of one rank, its comm, and a good source and destination buffer.
class BindingArgsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(reshard_layout_create_from_spec(kSpec, &src_, &dst_), RESHARD_OK);
    ASSERT_EQ(reshard_plan_create(src_, dst_, nullptr, &plan_), RESHARD_OK);
    ASSERT_EQ(reshard_comm_create_local(1, nullptr, &comm_), RESHARD_OK);
    for (reshard_buffer_t* buffer : {&from_, &into_}) reshard_buffer_init(buffer);
    from_.ptr = from_values_.data();
    into_.ptr = into_values_.data();
    from_.size_bytes = into_.size_bytes = sizeof(from_values_);
  }
  void TearDown() override {
    reshard_comm_destroy(comm_);
    reshard_plan_destroy(plan_);
    reshard_layout_destroy(dst_);
    reshard_layout_destroy(src_);
  }

  reshard_status_t bind() {
    reshard_binding_desc_t desc;
    reshard_binding_desc_init(&desc);
    desc.plan = plan_;
    desc.comm = comm_;
    desc.num_src_buffers = desc.num_dst_buffers = 1;
    desc.src_buffers = &from_;
    desc.dst_buffers = &into_;
    desc.device = device_;
    reshard_binding_t binding = nullptr;
    const reshard_status_t status = reshard_binding_create(&desc, &binding);
    EXPECT_EQ(binding != nullptr, status == RESHARD_OK);
    reshard_binding_destroy(binding);
    return status;
  }

  std::array<float, 4> from_values_{1, 2, 3, 4};
  std::array<float, 4> into_values_{};
  reshard_layout_t src_ = nullptr;
  reshard_layout_t dst_ = nullptr;
  reshard_plan_t plan_ = nullptr;
  reshard_comm_t comm_ = nullptr;
  reshard_buffer_t from_;
  reshard_buffer_t into_;
  std::int32_t device_ = -1;  // of the binding
};

TEST_F(BindingArgsTest, BuffersAreHostMemoryUnlessTheySayOtherwise) {
  EXPECT_EQ(from_.memory, RESHARD_MEMORY_HOST);
  EXPECT_EQ(from_.device, -1);
  EXPECT_EQ(bind(), RESHARD_OK) << reshard_last_error();
}

TEST_F(BindingArgsTest, AllBuffersAreInTheSameMemory) {
  into_.memory = RESHARD_MEMORY_CUDA;
  into_.device = 0;
  EXPECT_EQ(bind(), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("destination buffers [0] is memory of kind 1, device 0"));
}

TEST_F(BindingArgsTest, HostMemoryIsNoDevices) {
  from_.memory = into_.memory = RESHARD_MEMORY_CUDA;
  from_.device = into_.device = 0;
  // Where there is no device that comes first.
  std::int32_t num_devices = 0;
  const reshard_status_t counted = reshard_device_count(&num_devices);
  EXPECT_EQ(bind(), counted == RESHARD_OK ? RESHARD_ERR_INVALID_ARGUMENT : RESHARD_ERR_NOT_SUPPORTED);
  EXPECT_THAT(reshard_last_error(), HasSubstr("source buffers [0]"));
}

TEST_F(BindingArgsTest, HostMemoryHasNoDevice) {
  from_.device = 0;
  EXPECT_EQ(bind(), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("source buffers [0]"));
}

TEST_F(BindingArgsTest, TheDeviceIsThatOfTheBuffers) {
  device_ = 1;
  EXPECT_EQ(bind(), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("the binding's device is 1, and source buffers [0] is memory of kind 0"));
}

TEST_F(BindingArgsTest, ABufferThatWasNotInitialisedIsRefused) {
  from_.struct_size = 0;
  EXPECT_EQ(bind(), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("call its init function"));
}

}  // namespace
