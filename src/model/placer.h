// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/model/layout_builder.h"
#include "src/model/layout_text.h"

namespace reshard {

/// What a framework calls a parameter. A target that ends in "_" takes the leaf without a dot: "w2_" gives "w2_weight".
struct NameRule {
  std::string_view role;    ///< see Param
  std::string_view target;  ///< in place of the stem, or of its last component, see Scheme::keeps_modules
};

/// Parameters that a framework holds as one, each of `units` units its share of every member in turn; see Fusing. Of
/// members that a layer lacks nothing is held, and a member that is there alone is a parameter of its own.
struct FusedRule {
  enum class Units { kRanks, kGroups };  ///< kGroups: as many as the member with the fewest heads has heads

  std::string_view target;
  std::array<std::string_view, 3> roles;  ///< in memory order; unused ones are empty
  Units units = Units::kRanks;
};

/// How dimensions of one kind are cut: over `num_parts` coordinates of mesh axes. `key` names the number in messages.
struct Cut {
  std::string_view key;
  std::int64_t num_parts = 1;
  std::vector<int> axes;
};

/// The rules for one part of the model: its meshes, stage by stage, and its cuts. What has no cut is whole everywhere.
struct PartRules {
  std::vector<MeshPtr> meshes;
  std::array<std::optional<Cut>, kNumAxes> cuts;
  std::vector<int> order;  ///< memory order of tensors with as many dims; empty: row-major

  void cut(Axis axis, Cut cut) { cuts[static_cast<std::size_t>(axis)] = std::move(cut); }
};

/// A framework, with its settings, as tables: all that the placer knows of it.
struct Scheme {
  std::string layer_prefix;    ///< "decoder.layers"; empty: the checkpoint's
  bool keeps_modules = false;  ///< targets replace the last component of a stem only, not all of it
  std::span<const NameRule> names;
  std::span<const FusedRule> fused;
  std::array<PartRules, kNumParts> parts;  ///< by Part

  std::int64_t padded_vocab = 0;       ///< rows of embedding and output layer with padding; 0: none is added
  std::vector<DimMapPtr> expert_maps;  ///< who holds which experts, one for all layers or one per layer with experts;
                                       ///< empty: cut as any other dimension
  std::optional<Cut> shard;            ///< FSDP: dim 0 of every parameter that is not a buffer, by torch.chunk

  std::int32_t num_stages = 1;
  /// The stage of the parameter that is chosen()[choice].
  std::function<std::int32_t(std::size_t choice)> stage_of;
  bool repeats_outer = false;        ///< what lies outside the layers is on every stage
  std::string_view tied_output;      ///< buffer of a tied embedding on the last stage; empty: it is not there
  bool leaves_out_unserved = false;  ///< parameters that servers do not make are not placed
};

/// Places every chosen parameter of the builder by the tables. Errors begin with the layout's text and name the buffer.
Status place_model(const LayoutText& text, const Scheme& scheme, LayoutBuilder* builder);

}  // namespace reshard
