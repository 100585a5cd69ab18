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
void add_decoder(ModelWriter* writer, const std::function<void()>& attention,
                 const std::function<void(std::int64_t layer)>& ffn);
void add_decoder(ModelWriter* writer, const Attention& attention, const Mlp& mlp);

/// The same with experts in the layers that Model::is_moe names; `shared` may be of width 0.
void add_moe_decoder(ModelWriter* writer, const std::function<void()>& attention, const Mlp& mlp,
                     const Experts& experts, const Mlp& shared);

/// A decoder with four norms: before and behind attention, before and behind the MLP.
struct FourNorms {
  std::string behind_attention, before_mlp, behind_mlp;
};
void add_decoder_of_four_norms(ModelWriter* writer, const Attention& attention, const FourNorms& norms, const Mlp& mlp);

/// A gated MLP as wide as intermediate_size.
Mlp read_mlp(ModelWriter* writer);

// The rows of each file of families.
std::span<const Family> dense_families();
std::span<const Family> moe_families();

}  // namespace reshard
