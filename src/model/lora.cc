// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/lora.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <set>
#include <string_view>

namespace reshard {
namespace {

/// A projection that is adapted, by its role, the roles of its adapters, and what vLLM and Megatron call those.
struct Adapted {
  std::string_view role;
  std::string_view a, b;
  std::string_view vllm_a, vllm_b;          ///< "../": beside the projection, in place of it
  std::string_view megatron_a, megatron_b;  ///< of those that Megatron fuses, b is a member of a fused parameter
};

constexpr std::array kAdapted = {
    Adapted{"attention.q", "lora_a.q", "lora_b.q", "../qkv_proj.lora_a_stacked.0", "../qkv_proj.lora_b_stacked.0",
            "self_attention.linear_qkv.lora_A", ""},
    Adapted{"attention.k", "lora_a.k", "lora_b.k", "../qkv_proj.lora_a_stacked.1", "../qkv_proj.lora_b_stacked.1",
            "self_attention.linear_qkv.lora_A", ""},
    Adapted{"attention.v", "lora_a.v", "lora_b.v", "../qkv_proj.lora_a_stacked.2", "../qkv_proj.lora_b_stacked.2",
            "self_attention.linear_qkv.lora_A", ""},
    Adapted{"attention.o", "lora_a.o", "lora_b.o", "lora_a_stacked.0", "lora_b_stacked.0",
            "self_attention.linear_proj.lora_A", "self_attention.linear_proj.lora_B"},
    Adapted{"mlp.gate", "lora_a.gate", "lora_b.gate", "../gate_up_proj.lora_a_stacked.0",
            "../gate_up_proj.lora_b_stacked.0", "mlp.linear_fc1.lora_A", ""},
    Adapted{"mlp.up", "lora_a.up", "lora_b.up", "../gate_up_proj.lora_a_stacked.1", "../gate_up_proj.lora_b_stacked.1",
            "mlp.linear_fc1.lora_A", ""},
    Adapted{"mlp.down", "lora_a.down", "lora_b.down", "lora_a_stacked.0", "lora_b_stacked.0", "mlp.linear_fc2.lora_A",
            "mlp.linear_fc2.lora_B"},
};

constexpr FusedRule kMegatronFused[] = {
    {"self_attention.linear_qkv.lora_B", {"lora_b.q", "lora_b.k", "lora_b.v"}, FusedRule::Units::kGroups},
    {"mlp.linear_fc1.lora_B", {"lora_b.gate", "lora_b.up"}},
};

const Adapted* adapted_of(const Model& model, const Param& param) {
  // Checkpoints that are [in, out] have no adapters here, nor vision towers, nor biases any anywhere.
  if (param.leaf != "weight" || param.is_transposed) return nullptr;
  if (model.stacks[static_cast<std::size_t>(param.stack)].is_vision) return nullptr;
  const auto found =
      std::find_if(kAdapted.begin(), kAdapted.end(), [&](const Adapted& each) { return each.role == param.role; });
  return found == kAdapted.end() ? nullptr : &*found;
}

/// "q_proj" of "self_attn.q_proj".
std::string last_component(const std::string& stem) {
  return stem.substr(stem.rfind('.') + 1);
}

/// The names in "q_proj-v_proj", each of which some projection must have; all of them when it was not given.
Result<std::set<std::string>> read_targets(const LayoutText& text, const Model& model) {
  std::set<std::string> known;
  for (const Param& param : model.params) {
    if (adapted_of(model, param) != nullptr) known.insert(last_component(param.stem));
  }
  if (known.empty()) return text.error(fmt::format("lora: no projection of {} is adapted here", model.model_type));
  const std::string* value = text.find("lora_targets");
  if (value == nullptr) return known;
  std::set<std::string> targets;
  for (std::size_t begin = 0, end = 0; begin <= value->size(); begin = end + 1) {
    end = std::min(value->find('-', begin), value->size());
    const std::string target = value->substr(begin, end - begin);
    if (known.count(target) == 0) {
      return text.error(fmt::format("lora_targets names \"{}\"; those of {} are {}", target, model.model_type,
                                    fmt::join(known, "-")));
    }
    targets.insert(target);
  }
  return targets;
}

/// Megatron's fused projections have one adapter: their members are targets together.
Status check_megatron_targets(const LayoutText& text, const Model& adapters) {
  std::set<std::string_view> roles;
  for (const Param& param : adapters.params) roles.insert(param.role);
  for (const FusedRule& rule : kMegatronFused) {
    std::int64_t num_members = 0, num_targets = 0;
    for (const std::string_view role : rule.roles) {
      num_members += role.empty() ? 0 : 1;
      num_targets += static_cast<std::int64_t>(roles.count(role));
    }
    if (num_targets == 0 || num_targets == num_members) continue;
    return text.error(fmt::format("lora_targets has {} of the {} projections that {} adapts together; name all or none",
                                  num_targets, num_members, rule.target));
  }
  return {};
}

Param adapter(const Param& weight, std::string_view role, const char* name, std::vector<Dim> dims) {
  Param param = weight;
  param.role = role;
  param.stem += name;
  if (!param.server_stem.empty()) param.server_stem += name;
  param.dims = std::move(dims);
  param.output = 0;
  param.pieces.clear();
  param.served_pieces.reset();
  return param;
}

}  // namespace

Status take_adapters(const LayoutText& text, Model* model) {
  if (text.find("lora") == nullptr) {
    return text.find("lora_targets") == nullptr ? Status() : text.error("lora_targets needs lora, their rank");
  }
  if (text.find("quant") != nullptr) return text.error("quant: adapters are not quantised; leave it or lora out");
  if (text.kind() == "sglang") {
    return {RESHARD_ERR_NOT_SUPPORTED,
            fmt::format("\"{}\": lora: how SGLang holds adapters is not known here", text.text())};
  }
  RESHARD_TRY(const std::int32_t rank, text.integer("lora", 1));
  RESHARD_TRY(const std::set<std::string> targets, read_targets(text, *model));
  std::vector<Param> adapters;
  for (const Param& param : model->params) {
    const Adapted* adapted = adapted_of(*model, param);
    if (adapted == nullptr || targets.count(last_component(param.stem)) == 0) continue;
    const Dim plain{Axis::kPlain, rank};
    adapters.push_back(adapter(param, adapted->a, ".lora_A", {plain, param.dims[1]}));
    adapters.back().server_step = 1;  // the rows of the projection are those of B
    adapters.back().shares_memory = text.kind() == "megatron" && adapted->megatron_b.empty();
    adapters.push_back(adapter(param, adapted->b, ".lora_B", {param.dims[0], plain}));
  }
  model->params = std::move(adapters);
  return text.kind() == "megatron" ? check_megatron_targets(text, *model) : Status();
}

void name_vllm_adapters(Scheme* scheme) {
  for (const Adapted& each : kAdapted) {
    scheme->names.push_back({each.a, each.vllm_a, /*has_leaf=*/false});
    scheme->names.push_back({each.b, each.vllm_b, /*has_leaf=*/false});
  }
}

void name_megatron_adapters(Scheme* scheme) {
  for (const Adapted& each : kAdapted) {
    scheme->names.push_back({each.a, each.megatron_a});
    if (!each.megatron_b.empty()) scheme->names.push_back({each.b, each.megatron_b});
  }
  scheme->fused.insert(scheme->fused.end(), std::begin(kMegatronFused), std::end(kMegatronFused));
}

}  // namespace reshard
