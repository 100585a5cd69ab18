// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Which expert each physical slot holds, from the forms in which frameworks write it down: vLLM's and SGLang's rows of
// slots, one row per layer, and the list of devices per layer. An ExpertTable is by rank and slot, for one layer; an
// expert may stand in it several times (redundant experts) but not be absent.
#include "src/model/eplb.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "src/model/dim_maps.h"
#include "src/model/json_text.h"

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
                          "; expected {\"physical_to_logical\": [[...], ...]}, SGLang's {\"physical_to_logical_map\": "
                          "[[...], ...]} or {\"layer_list\": [...]}");
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

/// The rows of a map before anything is made of them.
struct MapRows {
  bool has_devices = false;  ///< rows are objects with a device_list, else lists of slots
  std::vector<const Json*> rows;
};

Result<MapRows> find_rows(const Json& json) {
  if (!json.is_object()) return malformed("not an object");
  const std::array<const char*, 3> forms = {"physical_to_logical", "physical_to_logical_map", "layer_list"};
  const char* form = nullptr;
  for (const char* key : forms) {
    if (!json.contains(key)) continue;
    if (form != nullptr) return malformed(fmt::format("has both {} and {}", form, key));
    form = key;
  }
  if (form == nullptr) return malformed("has no rows");
  MapRows rows;
  if (form == forms.back()) {
    rows.has_devices = true;
    RESHARD_TRY(rows.rows, ordered_by_id(json, form, "layer_id"));
    return rows;
  }
  if (!json[form].is_array()) return malformed(fmt::format("{} is not a list", form));
  for (const Json& row : json[form]) rows.rows.push_back(&row);
  return rows;
}

/// The layer of each row that matters; -1 for the one row that stands for all layers.
Result<std::vector<std::int64_t>> layers_of_rows(const std::vector<bool>& is_moe, std::size_t num_rows) {
  if (num_rows == 1) return std::vector<std::int64_t>{-1};
  const auto num_layers = static_cast<std::int64_t>(is_moe.size());
  std::vector<std::int64_t> layers;
  for (std::int64_t layer = 0; layer < num_layers; ++layer) {
    if (is_moe[static_cast<std::size_t>(layer)]) layers.push_back(layer);
  }
  if (num_rows == layers.size() || num_rows == is_moe.size()) return layers;
  return invalid_argument(fmt::format(
      "expert map: {} rows for a model of {} layers, {} of them with experts; give a row per layer, a row per "
      "layer with experts, or one for all",
      num_rows, num_layers, layers.size()));
}

Status check_table(const ExpertTable& table, std::int64_t num_experts) {
  std::vector<bool> is_held(static_cast<std::size_t>(num_experts), false);
  std::int64_t physical = 0;
  for (std::size_t rank = 0; rank < table.size(); ++rank) {
    for (std::size_t slot = 0; slot < table[rank].size(); ++slot, ++physical) {
      const std::int64_t expert = table[rank][slot];
      if (expert < 0 || expert >= num_experts) {
        return invalid_argument(fmt::format("slot {} (rank {}, slot {} of it): expert {} is outside 0 to {}", physical,
                                            rank, slot, expert, num_experts - 1));
      }
      is_held[static_cast<std::size_t>(expert)] = true;
    }
  }
  const auto missing = std::find(is_held.begin(), is_held.end(), false);
  if (missing == is_held.end()) return {};
  return invalid_argument(
      fmt::format("no slot holds expert {}; each of the {} needs one", missing - is_held.begin(), num_experts));
}

Result<ExpertTable> read_row(const Json& row, bool has_devices, const ExpertTableShape& shape) {
  if (has_devices) return read_devices(row, shape.num_ranks);
  RESHARD_TRY(const std::vector<std::int64_t> slots, read_ids(row));
  // Before a list per rank is made: with a slot for each expert there is at least one per rank once they divide.
  if (static_cast<std::int64_t>(slots.size()) < shape.num_experts) {
    return invalid_argument(fmt::format("{} expert slots for {} experts", slots.size(), shape.num_experts));
  }
  return divide_slots(slots, shape.num_ranks);
}

}  // namespace

ExpertTable linear_experts(std::int64_t num_experts, std::int64_t num_ranks) {
  const std::int64_t base = num_experts / num_ranks, remainder = num_experts % num_ranks;
  ExpertTable table(static_cast<std::size_t>(num_ranks));
  // Ranks below the remainder hold one more; the ids are consecutive from rank to rank.
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
  Result<Json> parsed = parse_json(json);
  if (!parsed.ok()) return malformed(parsed.status().message());
  RESHARD_TRY(const MapRows map, find_rows(*parsed));
  RESHARD_TRY(const std::vector<std::int64_t> layers, layers_of_rows(shape.is_moe, map.rows.size()));
  const bool is_by_layer = map.rows.size() > layers.size();  // rows of dense layers are between
  std::vector<ExpertTable> tables;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::size_t row = is_by_layer ? static_cast<std::size_t>(layers[i]) : i;
    const std::string where =
        layers[i] < 0 ? "expert map: row 0 (all layers)" : fmt::format("expert map: row {} (layer {})", row, layers[i]);
    Result<ExpertTable> table = read_row(*map.rows[row], map.has_devices, shape);
    if (!table.ok()) return table.take_status().with_context(where);
    RESHARD_TRY(check_table(*table, shape.num_experts).with_context(where));
    tables.push_back(table.take());
  }
  return tables;
}

Result<std::string> read_expert_map(const std::string& path) {
  constexpr std::size_t kMaxBytes = std::size_t{256} << 20;  // every rank of every layer: far below
  const auto failure = [&](const std::string& why) {
    return Status(RESHARD_ERR_IO, fmt::format("eplb={}: cannot read it: {}", path, why));
  };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (file == nullptr) return failure(std::strerror(errno));
  std::string text;
  std::array<char, 1 << 16> chunk;
  while (const std::size_t size = std::fread(chunk.data(), 1, chunk.size(), file.get())) {
    text.append(chunk.data(), size);
    if (text.size() > kMaxBytes) return failure("it has more than 256 MiB");
  }
  if (std::ferror(file.get()) != 0) return failure(std::strerror(errno));  // a directory, for one
  return text;
}

DimMapPtr expert_dim_map(const ExpertTable& table) {
  return make_parts(static_cast<std::int64_t>(table.size()), [&](std::int64_t rank) {
    DimPart part;
    for (const std::int64_t expert : table[static_cast<std::size_t>(rank)]) {
      // Consecutive ids in consecutive slots are one segment: a linear table is one per rank, however many experts.
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
