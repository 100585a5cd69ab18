// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/eplb.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "src/model/dim_maps.h"

namespace reshard {
namespace {

using Json = nlohmann::json;

/// Cuts a row of physical slots into equally many per rank.
Result<ExpertTable> divide_slots(const std::vector<std::int64_t>& slots, std::int64_t num_ranks) {
  const auto num_slots = static_cast<std::int64_t>(slots.size());
  if (num_slots % num_ranks != 0) {
    return invalid_argument(fmt::format("{} expert slots do not divide over ep = {} ranks", num_slots, num_ranks));
  }
  const std::int64_t per_rank = num_slots / num_ranks;
  ExpertTable table;
  for (std::int64_t rank = 0; rank < num_ranks; ++rank) {
    table.emplace_back(slots.begin() + rank * per_rank, slots.begin() + (rank + 1) * per_rank);
  }
  return table;
}

Status malformed(const std::string& what) {
  return invalid_argument("expert map: " + what +
                          "; expected {\"physical_to_logical\": [[...], ...]} or {\"layer_list\": [...]}");
}

/// A list of expert ids; their range is checked later, once it is known which slot each fills.
Result<std::vector<std::int64_t>> read_ids(const Json& list) {
  if (!list.is_array()) return malformed("a row of expert ids is not a list");
  std::vector<std::int64_t> ids;
  for (const Json& id : list) {
    if (!id.is_number_integer()) return malformed(fmt::format("expert id {} is not an integer", id.type_name()));
    ids.push_back(id.get<std::int64_t>());
  }
  return ids;
}

/// The elements of object[list_key] ordered by their id_key, which must count from 0.
Result<std::vector<const Json*>> ordered_by_id(const Json& object, const char* list_key, const char* id_key) {
  if (!object.is_object() || !object.contains(list_key) || !object[list_key].is_array()) {
    return malformed(fmt::format("no list {}", list_key));
  }
  const Json& list = object[list_key];
  std::vector<const Json*> ordered(list.size(), nullptr);
  for (const Json& element : list) {
    const bool has_id = element.is_object() && element.contains(id_key) && element[id_key].is_number_unsigned();
    const std::uint64_t id = has_id ? element[id_key].get<std::uint64_t>() : list.size();
    if (id >= list.size() || ordered[id] != nullptr) {
      return malformed(fmt::format("{}: {} must be 0 to {}, each once", list_key, id_key, list.size() - 1));
    }
    ordered[id] = &element;
  }
  return ordered;
}

Result<ExpertTable> read_devices(const Json& layer, std::int64_t num_ranks) {
  RESHARD_TRY(const std::vector<const Json*> devices, ordered_by_id(layer, "device_list", "device_id"));
  if (static_cast<std::int64_t>(devices.size()) != num_ranks) {
    return invalid_argument(fmt::format("{} devices for ep = {} ranks", devices.size(), num_ranks));
  }
  ExpertTable table;
  for (const Json* device : devices) {
    if (!device->contains("device_expert")) return malformed("a device without device_expert");
    RESHARD_TRY(std::vector<std::int64_t> ids, read_ids((*device)["device_expert"]));
    table.push_back(std::move(ids));
  }
  return table;
}

Result<std::vector<ExpertTable>> read_tables(const Json& json, std::int64_t num_ranks) {
  std::vector<ExpertTable> tables;
  const auto append = [&](Result<ExpertTable> table) -> Status {
    if (!table.ok()) return table.take_status().with_context(fmt::format("expert map: layer {}", tables.size()));
    tables.push_back(table.take());
    return {};
  };
  if (json.is_object() && json.contains("physical_to_logical") && json["physical_to_logical"].is_array()) {
    for (const Json& row : json["physical_to_logical"]) {
      RESHARD_TRY(const std::vector<std::int64_t> slots, read_ids(row));
      RESHARD_TRY(append(divide_slots(slots, num_ranks)));
    }
    return tables;
  }
  RESHARD_TRY(const std::vector<const Json*> layers, ordered_by_id(json, "layer_list", "layer_id"));
  for (const Json* layer : layers) RESHARD_TRY(append(read_devices(*layer, num_ranks)));
  return tables;
}

Status check_table(const ExpertTable& table, std::size_t layer, std::int64_t num_experts) {
  std::vector<bool> is_held(static_cast<std::size_t>(num_experts), false);
  std::int64_t physical = 0;
  for (std::size_t rank = 0; rank < table.size(); ++rank) {
    for (std::size_t slot = 0; slot < table[rank].size(); ++slot, ++physical) {
      const std::int64_t expert = table[rank][slot];
      if (expert < 0 || expert >= num_experts) {
        return invalid_argument(
            fmt::format("expert map: layer {}, slot {} (rank {}, slot {} of it): expert {} is outside 0 to {}", layer,
                        physical, rank, slot, expert, num_experts - 1));
      }
      is_held[static_cast<std::size_t>(expert)] = true;
    }
  }
  const auto missing = std::find(is_held.begin(), is_held.end(), false);
  if (missing == is_held.end()) return {};
  return invalid_argument(fmt::format("expert map: layer {}: no slot holds expert {}; each of the {} needs one", layer,
                                      missing - is_held.begin(), num_experts));
}

}  // namespace

ExpertTable linear_experts(std::int64_t num_experts, std::int64_t num_ranks) {
  const std::int64_t base = num_experts / num_ranks, remainder = num_experts % num_ranks;
  ExpertTable table(static_cast<std::size_t>(num_ranks));
  std::int64_t next = 0;
  for (std::size_t rank = 0; rank < table.size(); ++rank) {
    table[rank].resize(static_cast<std::size_t>(base + (static_cast<std::int64_t>(rank) < remainder ? 1 : 0)));
    std::iota(table[rank].begin(), table[rank].end(), next);
    next += static_cast<std::int64_t>(table[rank].size());
  }
  return table;
}

ExpertTable round_robin_experts(std::int64_t num_experts, std::int64_t num_ranks) {
  ExpertTable table(static_cast<std::size_t>(num_ranks));
  for (std::int64_t expert = 0; expert < num_experts; ++expert) {
    table[static_cast<std::size_t>(expert % num_ranks)].push_back(expert);
  }
  return table;
}

Result<ExpertTable> redundant_experts(std::int64_t num_experts, std::int64_t num_redundant, std::int64_t num_ranks) {
  std::vector<std::int64_t> slots;
  for (std::int64_t slot = 0; slot < num_experts + num_redundant; ++slot) slots.push_back(slot % num_experts);
  return divide_slots(slots, num_ranks);
}

Result<std::vector<ExpertTable>> parse_expert_map(const std::string& json, const ExpertTableShape& shape) {
  const Json parsed = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) return malformed("not JSON");
  RESHARD_TRY(std::vector<ExpertTable> tables, read_tables(parsed, shape.num_ranks));
  const auto num_tables = static_cast<std::int64_t>(tables.size());
  if (num_tables != 1 && num_tables < shape.num_moe_layers) {
    return invalid_argument(
        fmt::format("expert map: {} layers for {} layers with experts; give as many, or one for all", num_tables,
                    shape.num_moe_layers));
  }
  for (std::size_t layer = 0; layer < tables.size(); ++layer) {
    RESHARD_TRY(check_table(tables[layer], layer, shape.num_experts));
  }
  return tables;
}

DimMapPtr expert_dim_map(const ExpertTable& table) {
  return make_parts(static_cast<std::int64_t>(table.size()), [&](std::int64_t rank) {
    DimPart part;
    for (const std::int64_t expert : table[static_cast<std::size_t>(rank)]) {
      if (!part.segments.empty() && part.segments.back().end == expert) {
        ++part.segments.back().end;
      } else {
        part.segments.push_back({expert, expert + 1, part.extent});
      }
      ++part.extent;
    }
    return part;
  });
}

}  // namespace reshard
