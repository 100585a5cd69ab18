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
#include "src/model/stages.h"

namespace reshard {

/// What a framework calls a parameter. A target that ends in "_" takes the leaf without a dot: "w2_" gives "w2_weight".
struct NameRule {
  std::string_view role;    ///< see Param
  std::string_view target;  ///< in place of the stem, or of its last component, see Scheme::keeps_modules; then each
                            ///< "../" in front takes one component more
  bool has_leaf = true;     ///< false: the target is all of the name, as of parameters that no module wraps
};

/// Parameters, or pieces of them, that a framework holds as one, each of `units` units its share of every member in
/// turn; see Fusing. Of members that a layer lacks nothing is held, and a parameter that is there alone keeps its name.
struct FusedRule {
  enum class Units {
    kRanks,   ///< as many as ranks cut it
    kGroups,  ///< as many as the member with the fewest heads has heads
    kBlocks,  ///< as many as it takes to have Scheme::glu_block rows of each member in a unit; kRanks when that is 0
  };

  std::string_view target;
  std::array<std::string_view, 6> roles;  ///< in memory order; unused ones are empty
  Units units = Units::kRanks;
  bool has_leaf = true;  ///< see NameRule
};

/// A component of module names that a framework spells otherwise than the checkpoint, "block_sparse_moe" and "mlp".
struct ModuleRename {
  std::string_view from;
  std::string_view to;
};

/// How the routed experts of a layer lie on a rank: in one buffer, the expert first, or each in a buffer of its own,
/// and then where its name has the number. Numbers count from 0 on every rank; where nothing cuts the experts they are
/// the model's.
enum class ExpertBuffers {
  kOne,         ///< "experts.w2_weight"
  kModuleEach,  ///< a module each: "experts.7.down_proj.weight"
  kLeafEach,    ///< a parameter of one module each: "experts.linear_fc2.weight7"
};

/// How dimensions of one kind are cut: over `num_parts` coordinates of mesh axes. `key` names the number in messages.
struct Cut {
  std::string_view key;
  std::int64_t num_parts = 1;
  std::vector<int> axes;
};

/// FSDP: every parameter that is not a buffer is cut along one dim by torch.chunk, on top of the cuts, which are by
/// torch.chunk, too, as DTensor's are.
struct Shard {
  std::int64_t num_parts = 1;
  int axis = 0;
  bool takes_first_divisible = false;  ///< the first dim that num_parts divides, else dim 0; false: always dim 0
  bool is_outer = false;               ///< of a dim that is also cut: cut the shards, not shard the cuts
};

/// The rules for one part of the model: its meshes, stage by stage, and its cuts. What has no cut is whole everywhere.
struct PartRules {
  std::vector<MeshPtr> meshes;
  std::array<std::optional<Cut>, kNumAxes> cuts;
  bool is_transposed = false;  ///< the last two dims of tensors with three are exchanged in memory

  void cut(Axis axis, Cut cut) { cuts[static_cast<std::size_t>(axis)] = std::move(cut); }
};

/// A framework, with its settings, as tables: all that the placer knows of it.
struct Scheme {
  std::string layer_prefix;  ///< "decoder.layers"; empty: the checkpoint's
  /// Targets replace the last component of a stem only, not all of it, and what is one parameter in the checkpoint
  /// keeps its name.
  bool keeps_modules = false;
  bool counts_in_chunk = false;  ///< layer numbers in names count from 0 in every chunk of a stage
  bool holds_out_in = false;     ///< weights are [out, in] in memory, also where the checkpoint has [in, out]
  std::vector<NameRule> names;
  std::vector<FusedRule> fused;
  std::vector<ModuleRename> modules;
  ExpertBuffers expert_buffers = ExpertBuffers::kOne;
  std::vector<PrefixRule> prefixes;  ///< of names, once all else has been done to them; the first that fits counts
  std::array<PartRules, kNumParts> parts;  ///< by Part

  std::optional<Cut> output_cut;  ///< of the vocabulary of the output layer, where the embedding's is cut otherwise
  std::int64_t padded_vocab = 0;  ///< rows of embedding and output layer with padding; 0: none is added
  std::int64_t glu_block = 0;     ///< see FusedRule::Units::kBlocks
  std::vector<DimMapPtr> expert_maps;  ///< who holds which experts, one for all layers or one per layer with experts;
                                       ///< empty: cut as any other dimension
  std::optional<Shard> shard;

  std::int32_t num_stages = 1;
  const Stages* stages = nullptr;         ///< null: everything is on stage 0, or where stage_of says
  const Stages* vision_stages = nullptr;  ///< of a vision tower; null: it is on stage 0
  const Stages* mtp_stages = nullptr;     ///< for multi-token prediction; null: on stage 0
  bool has_whole_vision = false;          ///< nothing cuts a vision tower
  std::string vision_prefix;              ///< as layer_prefix, of the tower's layers
  std::string mtp_prefix;                 ///< of the layers for multi-token prediction
  std::string mtp_module;                 ///< in those, what a decoder layer has is in this module; empty: it is not
  std::string draft_prefix;               ///< before all names of what is for multi-token prediction
  std::optional<std::int32_t> mtp_embedding_stage;  ///< has the embedding once more, in the buffer mtp_embedding
  std::string mtp_embedding;
  std::optional<std::int32_t> final_norm_stage;              ///< of the decoder; absent: the last
  std::function<std::int32_t(std::size_t choice)> stage_of;  ///< instead of stages, by index in chosen()
  bool repeats_outer = false;                                ///< what lies outside the layers is on every stage
  std::string tied_output;  ///< buffer of a tied embedding on the last stage; empty: it is not there
  bool is_server = false;   ///< of parameters it cuts those that servers cut
};

/// A name with its prefix exchanged.
std::string with_prefix(const std::string& name, const std::vector<PrefixRule>& rules);

/// Places every chosen parameter of the builder by the tables. Errors begin with the layout's text and name the buffer.
Status place_model(const LayoutText& text, const Scheme& scheme, LayoutBuilder* builder);

}  // namespace reshard
