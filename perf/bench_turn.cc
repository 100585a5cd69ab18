// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// usage: bench_turn RANKS TURNS
//
// What a turn of a run costs in which nothing moves, on a rank with RANKS - 1 peers that have not begun. Prints the
// time; instructions are counted by two runs under `valgrind --tool=callgrind` with different TURNS, divided by the
// difference.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "src/exec/bind.h"
#include "src/transport/local.h"

namespace reshard {
namespace {

constexpr std::int64_t kTimeoutUs = 600'000'000;
constexpr std::int64_t kRowBytes = 64;

/// Every rank holds a row of a matrix and wants all of it.
std::shared_ptr<const Plan> plan_for(std::int32_t num_ranks) {
  std::vector<std::int32_t> ranks(static_cast<std::size_t>(num_ranks));
  for (std::size_t r = 0; r < ranks.size(); ++r) ranks[r] = static_cast<std::int32_t>(r);
  std::shared_ptr<ModelLayout> sides[2];
  for (auto& side : sides) {
    side = std::make_shared<ModelLayout>(num_ranks);
    Placement placement;
    placement.mesh = *Mesh::create({{"r", num_ranks}}, ranks);
    placement.dims.resize(2);
    Split split;
    split.num_parts = num_ranks;
    const DimMap rows = *make_dim_map(num_ranks, {split});
    if (&side == &sides[0]) placement.dims[0] = {std::make_shared<const DimMap>(rows), {0}};
    placement.buffer = side->add_buffer("w", DType::kU8);
    static_cast<void>(side->place(*side->add_tensor({"w", DType::kU8, {num_ranks, kRowBytes}, 0}), placement).ok());
  }
  return std::make_shared<const Plan>(*create_plan(sides[0], sides[1], {}));
}

/// Binds all ranks, each on a thread, over memory of the heap: everything is sent.
std::vector<std::unique_ptr<Binding>> bind_all(const std::shared_ptr<const Plan>& plan,
                                               std::vector<std::unique_ptr<Transport>>* transports,
                                               std::vector<std::vector<std::byte>>* memory) {
  std::vector<std::unique_ptr<Binding>> bindings(transports->size());
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < bindings.size(); ++r) {
    threads.emplace_back([&, r] {
      std::vector<std::byte>& mine = (*memory)[r];
      mine.resize((bindings.size() + 1) * kRowBytes);
      BindOptions options{plan, (*transports)[r].get(), {{0, mine.data(), kRowBytes}}, {}, nullptr, kTimeoutUs};
      options.dst.push_back({0, mine.data() + kRowBytes, static_cast<std::int64_t>(mine.size()) - kRowBytes});
      bindings[r] = Binding::create(options).take();
    });
  }
  for (std::thread& thread : threads) thread.join();
  return bindings;
}

int run(std::int32_t num_ranks, int num_turns) {
  auto transports = create_local_transports(num_ranks).take();
  std::vector<std::vector<std::byte>> memory(transports.size());
  const auto plan = plan_for(num_ranks);
  auto bindings = bind_all(plan, &transports, &memory);
  Driver& driver = bindings[0]->driver();
  if (!driver.start().ok() || !driver.poll().ok()) return 1;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < num_turns; ++i) {
    if (!driver.poll().ok()) return 1;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%d peers: %.1f ns for an idle turn\n", num_ranks - 1, took.count() * 1e9 / num_turns);
  return 0;
}

}  // namespace
}  // namespace reshard

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "see the top of bench_turn.cc\n"), 2;
  return reshard::run(std::atoi(argv[1]), std::atoi(argv[2]));
}
