// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <cstdio>
#include <reshard/reshard.hpp>
#include <vector>

namespace {

// A 2 x 3 matrix on one rank, whose storage is transposed.
reshard::Result<reshard::Layout> whole(std::vector<std::int32_t> order) {
  auto layout = reshard::Layout::create(1);
  if (!layout) return layout;
  const auto tensor = layout->add_tensor({.name = "w", .dtype = RESHARD_F32, .shape = {2, 3}});
  if (!tensor) return reshard::Failure(tensor.error());
  const auto placed = layout->place(*tensor, {.axes = {{.size = 1}}, .ranks = {0}, .order = std::move(order)});
  if (!placed) return reshard::Failure(placed.error());
  return layout;
}

reshard::Result<std::vector<float>> transpose(std::vector<float> values) {
  using std::chrono_literals::operator""s;
  const auto src = whole({}), dst = whole({1, 0});
  if (!src) return reshard::Failure(src.error());
  if (!dst) return reshard::Failure(dst.error());
  const auto plan = reshard::Plan::create(*src, *dst);
  if (!plan) return reshard::Failure(plan.error());
  const auto comms = reshard::Comm::local(1);
  if (!comms) return reshard::Failure(comms.error());
  std::vector<float> result(values.size());
  const std::size_t size_bytes = values.size() * sizeof(float);
  auto binding = reshard::Binding::create(*plan, comms->front(),
                                          {.src = {{.ptr = values.data(), .size_bytes = size_bytes}},
                                           .dst = {{.ptr = result.data(), .size_bytes = size_bytes}}});
  if (!binding) return reshard::Failure(binding.error());
  if (const auto started = binding->start(); !started) return reshard::Failure(started.error());
  if (const auto finished = binding->finish(10s); !finished) return reshard::Failure(finished.error());
  return result;
}

}  // namespace

int main() {
  const auto result = transpose({1, 2, 3, 4, 5, 6});
  if (!result) return std::fprintf(stderr, "%s\n", result.error().message.c_str()), 1;
  const bool is_right = *result == std::vector<float>{1, 4, 2, 5, 3, 6};
  std::printf("reshard %s: %s\n", reshard_version(), is_right ? "right" : "wrong");
  return is_right ? 0 : 1;
}
