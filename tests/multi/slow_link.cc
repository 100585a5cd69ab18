// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// One of two ranks on hosts of their own, whose link becomes slow in the middle of a job; run_slow_link.py makes both.
//
// usage: slow_link TIMEOUT_US     (the rest comes from the environment, as torchrun sets it)
//
// Rank 0 gives 64 MiB to rank 1, once at full speed. Then it prints "ready" and waits for a line on stdin: the link is
// slow from there on. The next run must fail on both ranks soon after its deadline; prints by how much it was late.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "reshard/reshard.h"

namespace {

constexpr std::int64_t kPatienceUs = 30'000'000;
constexpr std::size_t kBytes = 64 << 20;

const char kSpec[] = R"({"version": 1, "ranks": 2, "tensors": [{"name": "w", "group": 0, "shape": [67108864],
  "src": {"dtype": "U8", "mesh": {"axes": [["x", 1]], "ranks": [0]}, "placements": ["replicate"]},
  "dst": {"dtype": "U8", "mesh": {"axes": [["x", 1]], "ranks": [1]}, "placements": ["replicate"]}}]})";

void must(reshard_status_t status, const char* what) {
  if (status == RESHARD_OK) return;
  std::fprintf(stderr, "%s: %s\n", what, reshard_last_error());
  std::_Exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "see the top of slow_link.cc\n"), 2;
  const std::int64_t timeout_us = std::atoll(argv[1]);
  reshard_layout_t src = nullptr;
  reshard_layout_t dst = nullptr;
  reshard_plan_t plan = nullptr;
  must(reshard_layout_create_from_spec(kSpec, &src, &dst), "spec");
  must(reshard_plan_create(src, dst, nullptr, &plan), "plan");
  reshard_comm_t comm = nullptr;
  must(reshard_comm_create_from_environment(nullptr, &comm), "comm");
  std::int32_t rank = -1;
  must(reshard_comm_rank(comm, &rank), "rank");
  std::vector<unsigned char> memory(kBytes, rank == 0 ? 7 : 0);
  reshard_buffer_t buffer;
  reshard_buffer_init(&buffer);
  buffer.ptr = memory.data();
  buffer.size_bytes = memory.size();
  reshard_binding_desc_t desc;
  reshard_binding_desc_init(&desc);
  desc.plan = plan;
  desc.comm = comm;
  (rank == 0 ? desc.src_buffers : desc.dst_buffers) = &buffer;
  (rank == 0 ? desc.num_src_buffers : desc.num_dst_buffers) = 1;
  reshard_binding_t binding = nullptr;
  must(reshard_binding_create(&desc, &binding), "bind");
  must(reshard_binding_start(binding, nullptr), "start");
  must(reshard_binding_finish(binding, kPatienceUs), "the run at full speed");
  must(reshard_comm_allgather(comm, nullptr, nullptr, 0, kPatienceUs), "barrier");
  std::printf("ready\n");
  std::fflush(stdout);
  while (std::getchar() != '\n') {
  }
  must(reshard_binding_start(binding, nullptr), "start");
  const auto begin = std::chrono::steady_clock::now();
  const reshard_status_t status = reshard_binding_finish(binding, timeout_us);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%s %.3f\n", reshard_status_name(status), took.count() - static_cast<double>(timeout_us) * 1e-6);
  std::fflush(stdout);
  while (std::getchar() != '\n') {  // the link is fast again
  }
  reshard_binding_destroy(binding);
  reshard_comm_destroy(comm);
  return 0;
}
