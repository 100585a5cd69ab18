// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/dtype.h"
#include "src/base/status.h"
#include "src/model/config.h"

namespace reshard {

/// How the frameworks treat a parameter: what decides its cut and its fused neighbours.
enum class Role {
  kEmbedding,
  kLmHead,
  kReplicated,  ///< norms and routers: small, whole on every tensor-parallel rank
  kBuffer,      ///< replicated and not trained, so a trainer does not shard it either
  kQ,
  kK,
  kV,
  kQDown,   ///< q_a_proj of latent attention
  kKvDown,  ///< kv_a_proj_with_mqa
  kColumn,  ///< rows over tensor-parallel ranks by whole heads: q_b_proj (or q_proj), kv_b_proj
  kRow,     ///< columns over tensor-parallel ranks: o_proj, down_proj
  kGate,
  kUp,
  kExpertGate,  ///< [expert, ffn, hidden]
  kExpertUp,
  kExpertDown,  ///< [expert, hidden, ffn]
};

/// One parameter of the checkpoint; the routed experts of a layer are stacked into one per projection, expert id first.
struct Param {
  Role role = Role::kReplicated;
  std::int64_t layer = 0;   ///< -1: before the first layer; num_layers: after the last
  std::string_view suffix;  ///< the name within its layer, a literal: "self_attn.q_proj.weight"
  std::vector<std::int64_t> shape;
  DType dtype = DType::kBF16;
};

/// Every parameter of the model in the order of its forward pass.
/// Error: more than 2^60 elements in all, so that sums of bytes stay within 64 bits.
Result<std::vector<Param>> list_parameters(const ModelConfig& config);

/// "model.layers.3.mlp.experts.gate_proj.weight"; the suffix itself outside the layers.
std::string checkpoint_name(const ModelConfig& config, const Param& param);

bool is_in_layer(const ModelConfig& config, const Param& param);

}  // namespace reshard
