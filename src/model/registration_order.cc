// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// torch walks modules in the order in which a class assigns them to itself. Most decoder layers of transformers assign
// attention, then the MLP, then the norms; attention q, k, v, o, then the norms of q and k. Families that differ, and
// how, are in the table; records of the package are compared with it (tests/data/families/fsdp).
#include "src/model/registration_order.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace reshard {
namespace {

using Roles = std::vector<std::string_view>;

const Roles kAttention = {"attention.qkv", "attention.q",   "attention.k",      "attention.v",     "latent.q",
                          "latent.q_down", "latent.q_norm", "latent.q_up",      "latent.kv_down",  "latent.kv_norm",
                          "latent.kv_up",  "attention.o",   "attention.q_norm", "attention.k_norm"};
const Roles kMlp = {"mlp.gate_up", "mlp.gate", "mlp.up", "mlp.down"};
const Roles kExperts = {"experts.gate", "experts.up", "experts.down"};
const Roles kRouter = {"router"};
const Roles kShared = {"shared.gate", "shared.up", "shared.down", "shared.weight"};
const Roles kNorms = {"attention_norm", "attention_post_norm", "mlp_norm", "mlp_post_norm"};

/// Where the router stands beside its experts, in transformers 5 and in 4.
enum class RouterPlace { kBefore, kBehind, kBehindIn5 };

struct Registration {
  std::string_view model_type;
  RouterPlace router = RouterPlace::kBehind;
};

constexpr std::array kUsual = {
    Registration{"llama"},
    Registration{"mistral"},
    Registration{"qwen2"},
    Registration{"qwen3"},
    Registration{"seed_oss"},
    Registration{"hunyuan_v1_dense"},
    Registration{"starcoder2"},
    Registration{"olmo2"},
    Registration{"gemma"},
    Registration{"gemma2"},
    Registration{"gemma3_text"},
    Registration{"glm"},
    Registration{"qwen2_moe", RouterPlace::kBefore},
    Registration{"mixtral", RouterPlace::kBefore},
    Registration{"qwen3_moe", RouterPlace::kBehindIn5},
    Registration{"deepseek_v2"},
    Registration{"deepseek_v3"},
    Registration{"kimi_k2"},
    Registration{"glm4_moe"},
};

void append(const Roles& roles, Roles* all) {
  all->insert(all->end(), roles.begin(), roles.end());
}

/// The roles of a layer in their order; empty for a family that is not known.
Roles order_of(const Model& model, bool has_stacked_experts) {
  // Here norms stand where a forward pass has them.
  if (model.model_type == "gpt2") {
    return {"attention_norm", "attention.qkv", "attention.o", "mlp_norm", "mlp.up", "mlp.down"};
  }
  if (model.model_type == "phi3") {
    Roles roles = {"attention.o", "attention.qkv"};
    append(kMlp, &roles);
    append(kNorms, &roles);
    return roles;
  }
  if (model.model_type == "glm4") {
    Roles roles = kAttention;
    append(kMlp, &roles);
    append({"attention_norm", "mlp_norm", "attention_post_norm", "mlp_post_norm"}, &roles);
    return roles;
  }
  const auto found = std::find_if(kUsual.begin(), kUsual.end(),
                                  [&](const Registration& each) { return each.model_type == model.model_type; });
  if (found == kUsual.end()) return {};
  const bool is_router_first =
      found->router == RouterPlace::kBefore || (found->router == RouterPlace::kBehindIn5 && !has_stacked_experts);
  Roles roles = kAttention;
  append(kMlp, &roles);
  append(is_router_first ? kRouter : kExperts, &roles);
  append(is_router_first ? kExperts : kRouter, &roles);
  append(kShared, &roles);
  append(kNorms, &roles);
  return roles;
}

}  // namespace

Result<std::vector<std::vector<std::size_t>>> registration_order(const Model& model, bool has_stacked_experts) {
  const Roles roles = order_of(model, has_stacked_experts);
  const auto not_known = [&](const std::string& what) {
    return Status(RESHARD_ERR_NOT_SUPPORTED,
                  fmt::format("in which order {} registers {} is not known here", model.model_type, what));
  };
  if (roles.empty()) return not_known("its parameters");
  const auto place = [&](std::size_t index) {
    return std::find(roles.begin(), roles.end(), model.params[index].role) - roles.begin();
  };
  std::vector<std::vector<std::size_t>> units(1);  // the first is what lies outside the layers
  for (std::size_t index = 0; index < model.params.size(); ++index) {
    const Param& param = model.params[index];
    if (param.is_buffer) continue;
    if (stack_kind(model, param) != Stack::Kind::kLayers) {
      units[0].push_back(index);
      continue;
    }
    if (place(index) == static_cast<std::ptrdiff_t>(roles.size())) return not_known(checkpoint_name(model, param));
    const bool is_beside = units.size() > 1 && model.params[units.back().front()].stack == param.stack &&
                           model.params[units.back().front()].layer == param.layer;
    if (!is_beside) units.emplace_back();
    units.back().push_back(index);
  }
  for (std::size_t unit = 1; unit < units.size(); ++unit) {
    std::stable_sort(units[unit].begin(), units[unit].end(),
                     [&](std::size_t a, std::size_t b) { return place(a) < place(b); });
  }
  return units;
}

}  // namespace reshard
