// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/api/transfer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <thread>

namespace reshard::testing {
namespace {

constexpr int kPoison = 0xa5;

/// What element `flat` of a tensor holds in a run: whole numbers below 2^24, which a float has exactly.
float value_of(std::int64_t tensor, std::int64_t flat, std::int64_t run) {
  return static_cast<float>(run * 4'000'000 + tensor * 1'000'000 + flat + 1);
}

/// One rank's buffers of one side.
class SideMemory {
 public:
  SideMemory(reshard_layout_t layout, reshard_comm_t comm, std::int32_t rank, bool is_mappable)
      : layout_(layout), comm_(comm), rank_(rank), is_mappable_(is_mappable) {
    std::int64_t count = 0;
    EXPECT_EQ(reshard_layout_num_buffers(layout, rank, &count), RESHARD_OK);
    heap_.resize(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
      reshard_buffer_info_t info;
      reshard_buffer_info_init(&info);
      EXPECT_EQ(reshard_layout_get_buffer(layout, rank, i, &info), RESHARD_OK);
      const auto size = static_cast<std::size_t>(info.size_bytes);
      auto& heap = heap_[static_cast<std::size_t>(i)];
      heap.resize(is_mappable ? 0 : size);
      void* ptr = heap.data();
      if (is_mappable) {
        EXPECT_EQ(reshard_alloc(comm, size, &ptr), RESHARD_OK);
      }
      reshard_buffer_t buffer;
      reshard_buffer_init(&buffer);
      buffer.id = info.id;
      buffer.ptr = ptr;
      buffer.size_bytes = size;
      buffers_.push_back(buffer);
    }
  }
  ~SideMemory() {
    if (!is_mappable_) return;
    for (const reshard_buffer_t& buffer : buffers_) EXPECT_EQ(reshard_free(comm_, buffer.ptr), RESHARD_OK);
  }
  SideMemory(const SideMemory&) = delete;
  SideMemory& operator=(const SideMemory&) = delete;

  const std::vector<reshard_buffer_t>& buffers() const { return buffers_; }

  void poison() const {
    for (const reshard_buffer_t& buffer : buffers_) std::memset(buffer.ptr, kPoison, buffer.size_bytes);
  }
  void fill(std::int64_t run) const {
    for_each_element(
        [&](float* element, std::int64_t tensor, std::int64_t flat) { *element = value_of(tensor, flat, run); });
  }
  /// How many elements hold what they must, how many anything else.
  std::pair<std::int64_t, std::int64_t> count(std::int64_t run) const {
    std::int64_t right = 0;
    std::int64_t wrong = 0;
    for_each_element([&](const float* element, std::int64_t tensor, std::int64_t flat) {
      ++(*element == value_of(tensor, flat, run) ? right : wrong);
    });
    return {right, wrong};
  }

 private:
  template <typename Visit>
  void for_each_element(const Visit& visit) const {
    std::map<std::int64_t, std::byte*> base;
    for (const reshard_buffer_t& buffer : buffers_) base[buffer.id] = static_cast<std::byte*>(buffer.ptr);
    std::int64_t num_tensors = 0;
    EXPECT_EQ(reshard_layout_num_tensors(layout_, &num_tensors), RESHARD_OK);
    for (std::int64_t tensor = 0; tensor < num_tensors; ++tensor) {
      reshard_tensor_info_t info;
      reshard_tensor_info_init(&info);
      EXPECT_EQ(reshard_layout_get_tensor(layout_, tensor, &info), RESHARD_OK);
      std::int64_t num_blocks = 0;
      EXPECT_EQ(reshard_layout_num_blocks(layout_, rank_, tensor, &num_blocks), RESHARD_OK);
      for (std::int64_t b = 0; b < num_blocks; ++b) {
        reshard_block_t block;
        reshard_block_init(&block);
        EXPECT_EQ(reshard_layout_get_block(layout_, rank_, tensor, b, &block), RESHARD_OK);
        for (std::int64_t i = block.begin[0]; i < block.end[0]; ++i) {
          for (std::int64_t j = block.begin[1]; j < block.end[1]; ++j) {
            std::byte* at = base.at(block.buffer) + block.offset_bytes + (i - block.begin[0]) * block.strides_bytes[0] +
                            (j - block.begin[1]) * block.strides_bytes[1];
            visit(reinterpret_cast<float*>(at), tensor, i * info.shape[1] + j);
          }
        }
      }
    }
  }

  reshard_layout_t layout_;
  reshard_comm_t comm_;
  std::int32_t rank_;
  bool is_mappable_;
  std::vector<std::vector<std::byte>> heap_;
  std::vector<reshard_buffer_t> buffers_;
};

std::string spec_text(std::int64_t rows, std::int64_t cols, int per_side) {
  std::string src = "0";
  std::string dst = std::to_string(per_side);
  for (int r = 1; r < per_side; ++r) {
    src += ", " + std::to_string(r);
    dst += ", " + std::to_string(per_side + r);
  }
  const std::string axis = std::to_string(per_side);
  std::string text = R"({"version": 1, "ranks": )" + std::to_string(2 * per_side) + R"(, "tensors": [)";
  for (int t = 0; t < 3; ++t) {
    text += std::string(t > 0 ? ", " : "") + R"({"name": "t)" + std::to_string(t) + R"(", "group": )" +
            std::to_string(10 * t) + R"(, "shape": [)" + std::to_string(rows) + ", " + std::to_string(cols) +
            R"(], "src": {"dtype": "F32", "mesh": {"axes": [["tp", )" + axis + R"(]], "ranks": [)" + src +
            R"(]}, "placements": [{"shard": 0}]}, "dst": {"dtype": "F32", "mesh": {"axes": [["dp", )" + axis +
            R"(]], "ranks": [)" + dst + R"(]}, "placements": ["replicate"]}})";
  }
  return text + "]}";
}

}  // namespace

Sides::Sides(const std::string& spec) {
  EXPECT_EQ(reshard_layout_create_from_spec(spec.c_str(), &src, &dst), RESHARD_OK) << reshard_last_error();
}

LayoutOf::LayoutOf(std::int32_t num_ranks) {
  EXPECT_EQ(reshard_layout_create(num_ranks, &handle), RESHARD_OK) << reshard_last_error();
}

LayoutOf::LayoutOf(const reshard_model_options_t& options) {
  EXPECT_EQ(reshard_layout_create_from_model(&options, &handle), RESHARD_OK) << reshard_last_error();
}

Sides::~Sides() {
  reshard_layout_destroy(src);
  reshard_layout_destroy(dst);
}

std::string replicating_spec(std::int64_t rows, std::int64_t cols) {
  return spec_text(rows, cols, 4);
}

std::string small_spec() {
  return spec_text(6, 5, 2);
}

MachineOf::MachineOf(const char* text, const std::vector<std::int32_t>& segments) {
  const auto count = static_cast<std::int32_t>(segments.size());
  EXPECT_EQ(reshard_machine_create(text, count, segments.data(), &handle), RESHARD_OK) << reshard_last_error();
}

PlanOf::PlanOf(const Sides& sides, reshard_machine_t machine) {
  reshard_plan_options_t options;
  reshard_plan_options_init(&options);
  options.machine = machine;
  EXPECT_EQ(reshard_plan_create(sides.src, sides.dst, &options, &handle), RESHARD_OK) << reshard_last_error();
}

reshard_plan_info_t PlanOf::info() const {
  reshard_plan_info_t info;
  reshard_plan_info_init(&info);
  EXPECT_EQ(reshard_plan_get_info(handle, &info), RESHARD_OK) << reshard_last_error();
  return info;
}

std::string PlanOf::report() const {
  const char* json = nullptr;
  EXPECT_EQ(reshard_plan_report_json(handle, &json), RESHARD_OK) << reshard_last_error();
  return json;
}

void run_on_local_comms(std::int32_t num_ranks, const std::function<void(reshard_comm_t, std::int32_t)>& body) {
  std::vector<reshard_comm_t> comms(static_cast<std::size_t>(num_ranks));
  ASSERT_EQ(reshard_comm_create_local(num_ranks, nullptr, comms.data()), RESHARD_OK);
  std::vector<std::thread> threads;
  for (std::int32_t rank = 0; rank < num_ranks; ++rank) {
    threads.emplace_back([&, rank] {
      reshard_comm_t comm = comms[static_cast<std::size_t>(rank)];
      body(comm, rank);
      EXPECT_EQ(reshard_comm_allgather(comm, nullptr, nullptr, 0, kTimeoutUs), RESHARD_OK);
      reshard_comm_destroy(comm);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

reshard_binding_stats_t run_and_check(const Sides& sides, reshard_plan_t plan, reshard_comm_t comm, bool is_mappable) {
  reshard_binding_stats_t stats;
  reshard_binding_stats_init(&stats);
  std::int32_t rank = -1;
  EXPECT_EQ(reshard_comm_rank(comm, &rank), RESHARD_OK);
  const SideMemory src(sides.src, comm, rank, is_mappable);
  const SideMemory dst(sides.dst, comm, rank, is_mappable);
  reshard_binding_desc_t desc;
  reshard_binding_desc_init(&desc);
  desc.plan = plan;
  desc.comm = comm;
  desc.src_buffers = src.buffers().data();
  desc.num_src_buffers = static_cast<std::int64_t>(src.buffers().size());
  desc.dst_buffers = dst.buffers().data();
  desc.num_dst_buffers = static_cast<std::int64_t>(dst.buffers().size());
  reshard_binding_t binding = nullptr;
  EXPECT_EQ(reshard_binding_create(&desc, &binding), RESHARD_OK) << reshard_last_error();
  if (binding == nullptr) return stats;
  std::int64_t wanted = 0;  // elements, from the sizes of the destination's buffers
  for (const reshard_buffer_t& buffer : dst.buffers()) wanted += static_cast<std::int64_t>(buffer.size_bytes / 4);
  for (std::int64_t run = 0; run < 2; ++run) {
    src.fill(run);
    dst.poison();
    EXPECT_EQ(reshard_binding_start(binding, nullptr), RESHARD_OK) << reshard_last_error();
    EXPECT_EQ(reshard_binding_finish(binding, kTimeoutUs), RESHARD_OK) << reshard_last_error();
    EXPECT_EQ(dst.count(run), std::pair(wanted, std::int64_t{0})) << "rank " << rank << ", run " << run;
  }
  EXPECT_EQ(reshard_binding_get_stats(binding, &stats), RESHARD_OK);
  reshard_binding_destroy(binding);
  // Peers may still read this rank's memory in their last run.
  EXPECT_EQ(reshard_comm_allgather(comm, nullptr, nullptr, 0, kTimeoutUs), RESHARD_OK);
  return stats;
}

}  // namespace reshard::testing
