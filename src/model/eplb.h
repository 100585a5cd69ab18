// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/status.h"
#include "src/layout/dim_map.h"

namespace reshard {

/// The experts that each expert-parallel rank holds in one layer, in the order of its slots.
using ExpertTable = std::vector<std::vector<std::int64_t>>;

/// Consecutive experts; the first num_experts % num_ranks ranks have one more.
ExpertTable linear_experts(std::int64_t num_experts, std::int64_t num_ranks);

/// Rank k has experts k, k + num_ranks, ...
ExpertTable round_robin_experts(std::int64_t num_experts, std::int64_t num_ranks);

/// The table a server starts from: physical slot p holds expert p % num_experts, equally many slots per rank.
/// Error: num_ranks does not divide num_experts + num_redundant.
Result<ExpertTable> redundant_experts(std::int64_t num_experts, std::int64_t num_redundant, std::int64_t num_ranks);

/// What a table must fit.
struct ExpertTableShape {
  std::int64_t num_experts = 0;
  std::vector<bool> is_moe;  ///< by layer of the whole model, also of layers that a layout leaves out
  std::int64_t num_ranks = 0;
};

/// The tables of an expert map: one for all layers, or one per layer with experts. The map is one of
///   {"physical_to_logical": [[expert of slot 0, 1, ...], ...]}
///   {"physical_to_logical_map": ...}  the same as SGLang calls it
///   {"layer_list": [{"layer_id": 0, "device_list": [{"device_id": 0, "device_expert": [...]}, ...]}, ...]}
/// with one row for all layers, a row per layer with experts, or a row per layer of the model (as SGLang writes), in
/// which case those of dense layers are not looked at.
/// Errors, naming row, slot and value: an expert id out of range, an expert that no slot holds, any other number of
/// rows, slots that do not divide over the ranks, devices other than the ranks.
Result<std::vector<ExpertTable>> parse_expert_map(const std::string& json, const ExpertTableShape& shape);

/// The text of an expert map's file. Error: RESHARD_ERR_IO, also for a file of more than 256 MiB.
Result<std::string> read_expert_map(const std::string& path);

/// The cut of the expert dimension by a table.
DimMapPtr expert_dim_map(const ExpertTable& table);

}  // namespace reshard
