// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/dtype.h"

namespace reshard {

/// What the entries of a dimension are. It decides who cuts it: a framework has one rule for each kind, and needs to
/// know no more of a parameter than the kinds of its dimensions.
enum class Axis {
  kPlain,   ///< nothing that anybody cuts: a head's own elements, the outputs of a router
  kHidden,  ///< the residual stream
  kVocab,
  kHead,    ///< query heads, and all that counts with them
  kKvHead,  ///< heads of keys and values, of which several query heads may share one
  kFfn,     ///< the width of an MLP
  kExpert,  ///< routed experts
  kLatent,  ///< low ranks of latent attention
  kAddend,  ///< entries of a bias of experts that is added to a sum over ranks: where each rank adds its own, one has
            ///< it
};
inline constexpr std::size_t kNumAxes = 9;

/// `count` entries of `each` indices, which stay together: 8 heads of 128 rows.
struct Dim {
  Axis axis = Axis::kPlain;
  std::int64_t count = 0;
  std::int64_t each = 1;
  std::int64_t extent() const { return count * each; }
};

/// Rows of a parameter's outputs that frameworks treat on their own: entry i of `dim.count` is the `dim.each` rows from
/// begin + i / run * stride + i % run * each on, that is, `run` entries lie together and the next run a stride later. q
/// of a fused qkv_proj; the gate that lies between the query heads of a gated q_proj.
struct OutputPiece {
  std::string_view role;  ///< as Param::role
  Dim dim;
  std::int64_t begin = 0;
  std::int64_t stride = 0;
  std::int64_t run = 1;
};

/// Where frameworks treat parameters with the same dimensions differently.
enum class Part { kDense, kSharedExperts, kRoutedExperts };
inline constexpr std::size_t kNumParts = 3;

/// In which type servers hold a parameter.
enum class ServedType {
  kStored,  ///< that of the checkpoint
  kModel,   ///< that of the model, also where the checkpoint has fp32
  kF32,
};

/// A run of layers with one name and one numbering, or what lies before or behind all layers.
struct Stack {
  enum class Kind { kBefore, kLayers, kBehind };
  Kind kind = Kind::kLayers;
  std::string prefix;      ///< of its layers: "model.layers"; empty unless kLayers
  bool is_vision = false;  ///< of a vision tower, whose layers are dealt out to stages of their own
  std::int64_t num_layers = 0;
  std::int64_t first_group =
      0;                ///< completion group of its first layer; a group per layer, in order of the forward pass
  bool is_mtp = false;  ///< for multi-token prediction, behind the decoder: on stages of its own
  std::int64_t first_number = 0;  ///< of its first layer, in the checkpoint's names
};

/// One parameter of the checkpoint; the routed experts of a layer are stacked into one per projection, expert id first.
struct Param {
  std::string stem;  ///< its name within its layer, without the leaf: "self_attn.q_proj"
  std::string leaf;  ///< "weight", "bias"; empty for a parameter without
  /// What it is in its module, the same in every family and with every leaf: "attention.q". A literal. Frameworks'
  /// names and fused parameters go by it; a role that no table knows is one that no framework renames.
  std::string_view role;
  std::vector<Dim> dims;
  std::size_t output = 0;      ///< the dim of its outputs, along which frameworks fuse parameters
  bool is_transposed = false;  ///< the checkpoint has [in, out] where others have [out, in]
  bool is_bare = false;        ///< the checkpoint writes nothing for ".weight" behind the stem, "_bias" for ".bias"
  std::vector<OutputPiece> pieces;  ///< of the outputs; empty: they are of one kind
  /// What a server takes for the pieces, where that is not what they are: it cuts by these.
  std::optional<std::vector<OutputPiece>> served_pieces;
  DType dtype = DType::kBF16;
  std::int64_t stack = 0;  ///< index in Model::stacks
  std::int64_t layer = 0;  ///< within the stack
  Part part = Part::kDense;
  bool is_stack = false;                  ///< each entry of dim 0, an expert, is a parameter of its own
  bool is_buffer = false;                 ///< of its module and not trained: trainers do not shard it
  bool is_on_servers = true;              ///< false: in the checkpoint, but servers make no parameter of it
  bool is_copy = false;                   ///< files have it once more, in memory it is another parameter
  bool is_on_every_server_stage = false;  ///< also on those that compute nothing with it
  bool is_cut_on_servers = true;          ///< false: each rank of a server holds all of it
  bool shares_memory =
      false;                ///< lies where others lie, in full: several tensors are one parameter, as at a source only
  std::string server_stem;  ///< where servers have another stem, before tables of theirs name its last component
  ServedType served_type = ServedType::kStored;
  std::int64_t server_step = 1;  ///< servers deal the rows of a head out: every so many from 0 on, then from 1 on, ...
};

/// A prefix of parameters' names, and what takes its place.
struct PrefixRule {
  std::string_view from, to;
};

/// How vLLM treats a family, beyond what its configuration says.
struct ServerHabits {
  bool is_known = true;              ///< false: nobody here has seen how vLLM holds it, so that vllm: is refused
  bool repeats_outer = false;        ///< what lies outside the layers is on every pipeline stage
  bool never_ties = false;           ///< has an output layer of its own even where the config ties it
  bool ties_within_stage = false;    ///< cannot tie the output layer to an embedding on another stage
  std::vector<PrefixRule> prefixes;  ///< of its names, in place of the checkpoint's; the first that fits counts
  bool knows_whole_shared = false;   ///< shared experts are whole where ranks take different tokens through the experts
  bool balances_experts = true;      ///< can have redundant experts and tables of them
  bool makes_draft = true;           ///< of layers for multi-token prediction, a model
  bool is_whole_on_one_stage = false;   ///< shared experts are whole only where there is one pipeline stage
  std::int64_t least_expert_width = 1;  ///< of an expert on one of tp ranks; it pads where tp leaves less
};

/// Every parameter of a model in the order of its forward pass, and what the frameworks' rules ask beside them.
struct Model {
  std::string model_type;
  std::vector<Stack> stacks;
  std::vector<Param> params;
  DType dtype = DType::kBF16;
  std::int64_t num_layers = 0;  ///< that are kept
  bool tie_embeddings = false;  ///< lm_head is the embedding: no parameter of its own
  std::int64_t vocab_size = 0;
  std::int64_t num_heads = 0;
  std::int64_t num_kv_heads = 0;  ///< query groups; 0 with latent attention
  std::int64_t num_experts = 0;
  std::int64_t num_expert_groups = 0;  ///< among which a router chooses first; 0: it does not
  std::vector<bool> is_moe;  ///< by layer, also of the layers behind num_layers that are not kept; then of those for
                             ///< multi-token prediction
  std::int64_t num_mtp_layers = 0;  ///< layers for multi-token prediction that are taken along
  std::int64_t max_mtp_layers = 0;  ///< how many there are; 0 also where nobody asked
  ServerHabits server;
  std::string_view megatron_lacks;          ///< what of the family Megatron-Core has no module for; empty: nothing
  std::vector<PrefixRule> loaded_prefixes;  ///< of names in a model that transformers has loaded, as server.prefixes
};

/// Its name in the checkpoint within its layer: "self_attn.q_proj.weight", "mlp.experts.down_proj_bias".
std::string local_name(const Param& param);

/// What the checkpoint writes behind the stem of a parameter with is_bare: nothing, or "_bias".
std::string_view bare_leaf(const Param& param);

/// "model.layers.3.mlp.experts.gate_proj.weight"; without prefix and number outside the layers.
std::string checkpoint_name(const Model& model, const Param& param);

/// The completion group of a parameter.
std::int64_t group_of(const Model& model, const Param& param);

std::vector<std::int64_t> shape_of(const Param& param);

inline const Stack& stack_of(const Model& model, const Param& param) {
  return model.stacks[static_cast<std::size_t>(param.stack)];
}

/// Whether it is of the layers for multi-token prediction.
inline bool is_mtp(const Model& model, const Param& param) {
  return stack_of(model, param).is_mtp;
}

/// Whether a vision tower lies before the decoder.
inline bool has_tower(const Model& model) {
  return !model.stacks.empty() && model.stacks.front().is_vision;
}

inline Stack::Kind stack_kind(const Model& model, const Param& param) {
  return stack_of(model, param).kind;
}

/// Index of the dimension of this kind, or -1.
int find_axis(const Param& param, Axis axis);

}  // namespace reshard
