// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <reshard/reshard.h>

#include <cstdio>
#include <stdexcept>
#include <vector>

namespace {

void check(reshard_status_t status) {
  if (status != RESHARD_OK) throw std::runtime_error(reshard_last_error());
}

// Transposes the storage of a 2 x 3 matrix on one rank, through every step of the API.
const char kSpec[] = R"({"version": 1, "ranks": 1, "tensors": [{"name": "w", "group": 0, "shape": [2, 3],
  "src": {"dtype": "F32", "mesh": {"axes": [["x", 1]], "ranks": [0]}, "placements": ["replicate"]},
  "dst": {"dtype": "F32", "mesh": {"axes": [["x", 1]], "ranks": [0]}, "placements": ["replicate"],
          "order": [1, 0]}}]})";

reshard_buffer_t whole_buffer(reshard_layout_t layout, std::vector<float>* values) {
  reshard_buffer_info_t info;
  reshard_buffer_info_init(&info);
  check(reshard_layout_get_buffer(layout, 0, 0, &info));
  reshard_buffer_t buffer;
  reshard_buffer_init(&buffer);
  buffer.id = info.id;
  buffer.ptr = values->data();
  buffer.size_bytes = values->size() * sizeof(float);
  return buffer;
}

std::vector<float> run(std::vector<float> values) {
  reshard_layout_t src = nullptr;
  reshard_layout_t dst = nullptr;
  reshard_plan_t plan = nullptr;
  reshard_comm_t comm = nullptr;
  reshard_binding_t binding = nullptr;
  check(reshard_layout_create_from_spec(kSpec, &src, &dst));
  check(reshard_plan_create(src, dst, nullptr, &plan));
  check(reshard_comm_create_local(1, nullptr, &comm));

  std::vector<float> result(values.size());
  const reshard_buffer_t from = whole_buffer(src, &values);
  const reshard_buffer_t into = whole_buffer(dst, &result);
  reshard_binding_desc_t desc;
  reshard_binding_desc_init(&desc);
  desc.plan = plan;
  desc.comm = comm;
  desc.num_src_buffers = 1;
  desc.src_buffers = &from;
  desc.num_dst_buffers = 1;
  desc.dst_buffers = &into;
  check(reshard_binding_create(&desc, &binding));
  check(reshard_binding_start(binding, nullptr));
  check(reshard_binding_finish(binding, RESHARD_TIMEOUT_INFINITE));

  reshard_binding_destroy(binding);
  reshard_comm_destroy(comm);
  reshard_plan_destroy(plan);
  reshard_layout_destroy(dst);
  reshard_layout_destroy(src);
  return result;
}

}  // namespace

int main() {
  try {
    const bool is_right = run({1, 2, 3, 4, 5, 6}) == std::vector<float>{1, 4, 2, 5, 3, 6};
    std::printf("reshard %s: %s\n", reshard_version(), is_right ? "right" : "wrong");
    return is_right ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
