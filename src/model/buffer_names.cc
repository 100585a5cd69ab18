// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/buffer_names.h"

#include <fmt/format.h>

namespace reshard {
namespace {

std::string renamed_modules(const Scheme& scheme, std::string stem) {
  for (const ModuleRename& rename : scheme.modules) {
    const std::string from = std::string(rename.from) + ".";
    if (stem.starts_with(from)) stem = std::string(rename.to) + stem.substr(rename.from.size());
  }
  return stem;
}

/// Its name within its layer.
std::string name_in_layer(const Scheme& scheme, const Param& param, const FusedGroup& group, std::int64_t slot) {
  const NameRule rule = name_rule(scheme, param, group);
  const bool has_server_stem = scheme.is_server && !param.server_stem.empty();
  std::string stem = has_server_stem ? param.server_stem : param.stem, leaf = param.leaf;
  if (!rule.target.empty()) {
    std::string_view target = rule.target;
    std::size_t module = scheme.keeps_modules ? stem.rfind('.') + 1 : 0;
    for (; target.starts_with("../"); target.remove_prefix(3)) module = stem.rfind('.', module - 2) + 1;
    stem = stem.substr(0, module) + std::string(target);
  }
  stem = renamed_modules(scheme, std::move(stem));
  if (slot >= 0 && scheme.expert_buffers == ExpertBuffers::kModuleEach) {
    stem.insert(stem.rfind('.'), fmt::format(".{}", slot));
  } else if (slot >= 0) {
    leaf += std::to_string(slot);
  }
  std::string name = stem;
  if (param.is_bare && rule.target.empty() && !has_server_stem) {
    name += bare_leaf(param);
  } else if (rule.has_leaf && !leaf.empty()) {
    name += (stem.back() == '_' ? "" : ".") + leaf;
  }
  return name;
}

/// The framework's prefix of layers; empty: the checkpoint's.
const std::string& layer_prefix(const Scheme& scheme, const Stack& stack) {
  if (stack.is_mtp) return scheme.mtp_prefix;
  return stack.is_vision ? scheme.vision_prefix : scheme.layer_prefix;
}

}  // namespace

NameRule name_rule(const Scheme& scheme, const Param& param, const FusedGroup& group) {
  const bool keeps_name = scheme.keeps_modules && group.is_one_parameter();
  if (group.is_renamed() && !keeps_name) return {param.role, group.rule->target, group.rule->has_leaf};
  for (const NameRule& rule : scheme.names) {
    if (rule.role == param.role) return rule;
  }
  return {param.role, "", true};
}

const Stages* stages_for(const Scheme& scheme, const Model& model, const Param& param) {
  const Stack& stack = stack_of(model, param);
  if (stack.is_mtp) return scheme.mtp_stages;
  return stack.is_vision ? scheme.vision_stages : scheme.stages;
}

std::string buffer_name(const Scheme& scheme, const Model& model, const Param& param, const FusedGroup& group,
                        std::int64_t slot) {
  std::string name = name_in_layer(scheme, param, group, slot);
  const Stack& stack = stack_of(model, param);
  if (stack.is_mtp && !scheme.mtp_module.empty() && !param.role.starts_with("mtp.")) {
    name = scheme.mtp_module + "." + name;
  }
  const std::string& own_prefix = layer_prefix(scheme, stack);
  // What a file has outside the layers for multi-token prediction is of the first of them where they are modules.
  const bool is_in_layer = stack.kind == Stack::Kind::kLayers || (stack.is_mtp && !own_prefix.empty());
  const std::string draft = stack.is_mtp ? scheme.draft_prefix : "";
  if (!is_in_layer) return with_prefix(draft + name, scheme.prefixes);
  const std::string& prefix = own_prefix.empty() ? stack.prefix : own_prefix;
  const std::int64_t first_number = own_prefix.empty() ? stack.first_number : 0;
  const Stages::Place place = scheme.counts_in_chunk ? stages_for(scheme, model, param)->place_of(param.layer)
                                                     : Stages::Place{0, 0, first_number + param.layer};
  name = with_prefix(fmt::format("{}{}.{}.{}", draft, prefix, place.number, name), scheme.prefixes);
  const bool has_chunks = scheme.counts_in_chunk && scheme.stages->num_chunks() > 1;
  return has_chunks ? fmt::format("{}.{}", place.chunk, name) : name;
}

std::string with_prefix(const std::string& name, const std::vector<PrefixRule>& rules) {
  for (const PrefixRule& rule : rules) {
    if (name.starts_with(rule.from)) return std::string(rule.to) + name.substr(rule.from.size());
  }
  return name;
}

}  // namespace reshard
