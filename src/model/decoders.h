// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "src/model/modules.h"

namespace reshard {

// What families have in common beside modules: the order of a decoder's parts. Names are those of most checkpoints.

/// Layers of norm, attention, norm, MLP or experts.
using AddToLayer = std::function<void(std::int64_t layer)>;
void add_decoder(ModelWriter* writer, const AddToLayer& attention, const AddToLayer& ffn);
void add_decoder(ModelWriter* writer, const std::function<void()>& attention, const AddToLayer& ffn);
void add_decoder(ModelWriter* writer, const Attention& attention, const Mlp& mlp);
/// One of those layers.
void add_layer(ModelWriter* writer, const std::function<void()>& attention, const std::function<void()>& ffn);

/// What stands behind the attention of a layer: experts where Model::is_moe says so, else a dense MLP.
struct MoeFfn {
  Mlp dense;
  Experts routed;
  Mlp shared;                      ///< of width 0: there are none
  bool has_shared_weight = false;  ///< a sigmoid weighs what the shared experts give
};
void add_moe_ffn(const MoeFfn& ffn, std::int64_t layer, ModelWriter* writer);
void add_moe_decoder(ModelWriter* writer, const AddToLayer& attention, const MoeFfn& ffn);

/// The experts of Qwen2-MoE and its successors, without shared ones, and which layers have them.
MoeFfn read_qwen_ffn(ModelWriter* writer);
/// Adds the shared experts, which all of them but Qwen3-MoE have.
void read_qwen_shared(MoeFfn* ffn, ModelWriter* writer);

/// The same of DeepSeek and those who took over its keys; `num_dense_unless_told` layers in front are dense.
MoeFfn read_deepseek_ffn(ModelWriter* writer, std::int64_t num_dense_unless_told);

/// A decoder with four norms: before and behind attention, before and behind the MLP.
struct FourNorms {
  std::string behind_attention, before_mlp, behind_mlp;
};
void add_decoder_of_four_norms(ModelWriter* writer, const Attention& attention, const FourNorms& norms, const Mlp& mlp);

/// Of the biases of linear layers servers have those of these roles only.
void serve_biases_of(std::initializer_list<std::string_view> roles, ModelWriter* writer);

/// A gated MLP as wide as intermediate_size.
Mlp read_mlp(ModelWriter* writer);

// The rows of each file of families.
std::span<const Family> dense_families();
std::span<const Family> moe_families();
std::span<const Family> hybrid_families();
std::span<const Family> vision_families();

}  // namespace reshard
