// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>

#include "src/model/model_writer.h"

namespace reshard {

// The modules of a layer: each is a struct of sizes, most of them read from the config, and a function that adds its
// parameters. Names are those of most checkpoints; a family that has others says so.

/// Attention with grouped queries, of which multi-head (as many key heads) and multi-query (one) are cases.
struct Attention {
  std::string prefix = "self_attn";
  std::string q = "q_proj", k = "k_proj", v = "v_proj", o = "o_proj";
  std::int64_t num_heads = 1;
  std::int64_t num_kv_heads = 1;
  std::int64_t head_dim = 1;
  bool has_qkv_bias = false;
  bool has_output_bias = false;
  bool is_qkv_bias_served = true;     ///< servers have it
  bool is_output_bias_served = true;  ///< servers have it
  std::string qkv;                    ///< not empty: q, k and v are one parameter of this name, all q heads first
  bool has_grouped_qkv = false;       ///< in that parameter each group has its q heads, then its k and its v head
  bool has_output_gate = false;       ///< q_proj has a gate behind every query head
  bool has_qk_norm = false;           ///< an RMS norm over each head of q and of k
  bool has_whole_qk_norm = false;     ///< an RMS norm over all heads of q, and one over all of k
  bool is_whole_norm_cut = false;     ///< its weights are cut as the heads are, else whole on every rank
  std::string q_norm = "q_norm", k_norm = "k_norm";
  bool has_sinks = false;        ///< a logit of each query head for attending to nothing
  std::string server_prefix;     ///< what servers call the module; empty: `prefix`
  std::int64_t server_step = 1;  ///< see Param::server_step; of the weights of q and k
};

/// Sizes from num_attention_heads, num_key_value_heads (as many, when absent) and head_dim (or hidden size / heads).
Attention read_attention(ModelWriter* writer);
/// The same for Qwen3, whose queries and keys have norms.
Attention read_qwen3_attention(ModelWriter* writer);
void add_attention(const Attention& attention, ModelWriter* writer);

/// Multi-head latent attention (DeepSeek): q and kv pass through low ranks; a head of q or k has a part without
/// position (nope) and one with (rope), which for k all heads share.
struct LatentAttention {
  std::int64_t num_heads = 1;
  std::int64_t q_rank = 0;  ///< 0: q is projected in one step, by q_proj
  std::int64_t kv_rank = 1;
  std::int64_t nope_dim = 1;
  std::int64_t rope_dim = 1;
  std::int64_t v_dim = 1;
  bool has_bias = false;  ///< of the down-projections and of the output; servers have none of these
};

LatentAttention read_latent_attention(ModelWriter* writer);
void add_latent_attention(const LatentAttention& attention, ModelWriter* writer);

/// A dense MLP, or the shared experts, which are one MLP of their summed width in the checkpoint and in every
/// framework.
struct Mlp {
  std::string prefix = "mlp";
  std::string gate = "gate_proj", up = "up_proj", down = "down_proj";
  std::int64_t width = 1;
  std::string gate_up;  ///< not empty: gate and up are one parameter of this name, gate first
  bool is_gated = true;
  bool has_bias = false;
  Part part = Part::kDense;
};

void add_mlp(const Mlp& mlp, ModelWriter* writer);

/// A router and its experts, each a gated MLP.
struct Experts {
  enum class Form {
    kEach,          ///< the checkpoint has each expert on its own
    kStacked,       ///< all in gate_up_proj [experts, in, out], gate first, and down_proj
    kStackedOutIn,  ///< the same with [experts, out, in]
    kInterleaved,   ///< as kStacked, with gate and up in turns, and a bias of each
  };

  std::string prefix = "mlp";
  std::string router = "gate";                                         ///< under the prefix
  std::string gate = "gate_proj", up = "up_proj", down = "down_proj";  ///< under "PREFIX.experts"
  std::int64_t count = 1;
  std::int64_t width = 1;
  Form form = Form::kEach;
  bool has_router_bias = false;
  bool has_fp32_router = false;  ///< in the checkpoint
  ServedType served_router = ServedType::kStored;

  bool has_correction_bias = false;                         ///< what is added to scores where experts are chosen
  std::string correction = "gate.e_score_correction_bias";  ///< under the prefix
  std::string server_correction;                            ///< what servers call it; empty: the same
  bool has_fp32_correction =
      true;                        ///< in the checkpoint; its updates are too small for bf16: servers have it so anyway
  bool is_correction_row = false;  ///< [1, experts], and no buffer
  bool is_correction_served = true;  ///< servers make a parameter of that
};

void add_experts(const Experts& experts, ModelWriter* writer);

}  // namespace reshard
