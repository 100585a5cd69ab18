// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/families.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "src/model/decoders.h"
#include "src/model/json_text.h"

namespace reshard {
namespace {

/// How many letters must be put in, left out or exchanged to make one word of the other.
std::size_t distance(std::string_view from, std::string_view to) {
  std::vector<std::size_t> row(to.size() + 1);  // of the first i letters of `from`, by length of the part of `to`
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= from.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= to.size(); ++j) {
      const std::size_t exchanged = diagonal + (from[i - 1] == to[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, exchanged}));
    }
  }
  return row.back();
}

/// The names that a typing error away, or that go on where this one ends: "; near are qwen3_next, qwen3_vl".
std::string near_names(const std::string& name, std::span<const Family> families) {
  std::string near;
  for (const Family& family : families) {
    const bool goes_on = !name.empty() && (family.model_type.starts_with(name) || name.starts_with(family.model_type));
    if (!goes_on && distance(name.substr(0, 100), family.model_type) > 2) continue;
    near += (near.empty() ? "; near are " : ", ") + std::string(family.model_type);
  }
  return near;
}

Status unknown_family(const ConfigReader& config, std::span<const Family> families) {
  std::string known;
  for (const Family& family : families) known += (known.empty() ? "" : ", ") + std::string(family.model_type);
  // A model of several parts names its tensors by part, so that its text_config alone would not describe them.
  const std::string parts =
      config.has("text_config") ? ", which has parts beside text (text_config) and needs a row of its own" : "";
  const std::string near = near_names(config.find("model_type")->get<std::string>(), families);
  return {RESHARD_ERR_NOT_SUPPORTED, fmt::format("config: model_type is {}{}{}; the known ones are {}",
                                                 describe(*config.find("model_type")), parts, near, known)};
}

}  // namespace

std::span<const Family> known_families() {
  static const std::vector<Family> families = [] {
    std::vector<Family> all(dense_families().begin(), dense_families().end());
    all.insert(all.end(), moe_families().begin(), moe_families().end());
    all.insert(all.end(), hybrid_families().begin(), hybrid_families().end());
    all.insert(all.end(), vision_families().begin(), vision_families().end());
    return all;
  }();
  return families;
}

Result<Model> read_model(const std::string& config_json, const ModelReadOptions& options,
                         std::span<const Family> families) {
  RESHARD_TRY(ConfigReader config, ConfigReader::parse(config_json));
  if (!config.has("model_type")) return invalid_argument("config: model_type is missing");
  const std::string model_type = config.word("model_type", "");
  RESHARD_TRY(config.status());
  const auto family =
      std::find_if(families.begin(), families.end(), [&](const Family& f) { return f.model_type == model_type; });
  if (family == families.end()) return unknown_family(config, families);
  config.take_part("text_config");  // of the decoder; what it does not say, a model of several parts says beside it
  RESHARD_TRY(config.status());
  ModelWriter writer(&config, options);
  // A fault found so far would only be hidden by the values that stand in for faulty ones.
  RESHARD_TRY(config.status());
  family->describe(&writer);
  writer.model().model_type = model_type;
  return std::move(writer).take();
}

}  // namespace reshard
