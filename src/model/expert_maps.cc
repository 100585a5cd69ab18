// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/expert_maps.h"

#include <fmt/format.h>

#include "src/model/eplb.h"

namespace reshard {
namespace {

Result<std::vector<ExpertTable>> make_tables(const ExpertSettings& settings, const Model& model, std::int64_t ep) {
  if (!settings.eplb_file.empty()) {
    RESHARD_TRY(const std::string json, read_expert_map(settings.eplb_file));
    return parse_expert_map(json, {model.num_experts, model.is_moe, ep});
  }
  if (settings.redundant > 0) {
    RESHARD_TRY(ExpertTable table, redundant_experts(model.num_experts, settings.redundant, ep));
    return std::vector<ExpertTable>{std::move(table)};
  }
  return std::vector<ExpertTable>{settings.is_round_robin ? round_robin_experts(model.num_experts, ep)
                                                          : linear_experts(model.num_experts, ep)};
}

}  // namespace

Result<std::vector<DimMapPtr>> make_expert_maps(const LayoutText& text, const ExpertSettings& settings,
                                                const Model& model, std::int64_t ep) {
  if (model.num_experts == 0) return text.error(fmt::format("ep = {}, but {} has no experts", ep, model.model_type));
  Result<std::vector<ExpertTable>> tables = make_tables(settings, model, ep);
  if (!tables.ok()) return tables.take_status().with_context("\"" + text.text() + "\"");
  std::vector<DimMapPtr> maps;
  for (const ExpertTable& table : *tables) maps.push_back(expert_dim_map(table));
  return maps;
}

}  // namespace reshard
