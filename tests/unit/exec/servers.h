// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Servers whose experts lie as tables say, for tests of what follows when the tables change.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "src/layout/layout.h"
#include "tests/unit/plan/layouts.h"
#include "tests/unit/scenario/scenario.h"

namespace reshard::testing {

/// By layer and server rank: the expert in each slot.
using Tables = std::vector<std::vector<std::vector<std::int64_t>>>;

struct Servers {
  std::int64_t num_layers = 1;
  std::int64_t num_experts = 1;
  std::int32_t num_trainers = 1;
  std::int32_t num_servers = 1;
  std::int64_t num_slots = 1;  ///< of each server rank
};

/// Every expert is somewhere; the slots beyond that hold any.
inline std::vector<std::vector<std::int64_t>> random_table(const Servers& servers, Choices* choices) {
  const std::int64_t num_slots = servers.num_slots * servers.num_servers;
  std::vector<std::int64_t> flat;
  for (std::int64_t s = 0; s < num_slots; ++s) {
    flat.push_back(s < servers.num_experts ? s : choices->pick(servers.num_experts));
  }
  for (std::size_t s = flat.size(); s > 1; --s) {
    std::swap(flat[s - 1], flat[static_cast<std::size_t>(choices->pick(static_cast<std::int64_t>(s)))]);
  }
  std::vector<std::vector<std::int64_t>> table;
  for (std::int64_t r = 0; r < servers.num_servers; ++r) {
    table.emplace_back(flat.begin() + r * servers.num_slots, flat.begin() + (r + 1) * servers.num_slots);
  }
  return table;
}

inline DimMapPtr map_of(const std::vector<std::vector<std::int64_t>>& table) {
  auto map = std::make_shared<DimMap>();
  for (const std::vector<std::int64_t>& slots : table) {
    DimPart part;
    for (const std::int64_t expert : slots) {
      part.segments.push_back({expert, expert + 1, part.extent});
      ++part.extent;
    }
    map->parts.push_back(part);
  }
  return map;
}

/// Experts of each layer by its table, and an attention that no table is for; built anew for every table, as servers
/// do.
inline std::shared_ptr<const ModelLayout> servers_layout(const Servers& servers, const Tables& tables) {
  auto layout = std::make_shared<ModelLayout>(servers.num_trainers + servers.num_servers);
  for (std::int64_t l = 0; l < servers.num_layers; ++l) {
    add_sharded(layout.get(), {"attention" + std::to_string(l), DType::kBF16, {12, 5}, l}, servers.num_trainers, 1,
                servers.num_servers);
    const Tensor experts{"experts" + std::to_string(l), DType::kBF16, {servers.num_experts, 3, 4}, l};
    const std::int64_t id = *layout->add_tensor(experts);
    std::vector<std::int32_t> ranks(static_cast<std::size_t>(servers.num_servers));
    std::iota(ranks.begin(), ranks.end(), servers.num_trainers);
    Placement placement;
    placement.mesh = *Mesh::create({{"ep", servers.num_servers}}, ranks);
    placement.dims.resize(3);
    placement.dims[0] = {map_of(tables[static_cast<std::size_t>(l)]), {0}};
    placement.buffer = layout->add_buffer(experts.name, experts.dtype);
    EXPECT_TRUE(layout->place(id, placement).ok());
  }
  return layout;
}

inline std::shared_ptr<const ModelLayout> trainers_layout(const Servers& servers) {
  auto layout = std::make_shared<ModelLayout>(servers.num_trainers + servers.num_servers);
  for (std::int64_t l = 0; l < servers.num_layers; ++l) {
    const auto name = [&](const char* what) { return what + std::to_string(l); };
    add_sharded(layout.get(), {name("attention"), DType::kBF16, {12, 5}, l}, 0, 1, servers.num_trainers);
    add_sharded(layout.get(), {name("experts"), DType::kBF16, {servers.num_experts, 3, 4}, l}, 0, 1,
                servers.num_trainers, static_cast<int>(l % 3));
  }
  return layout;
}

}  // namespace reshard::testing
