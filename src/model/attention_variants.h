// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>

#include "src/model/model_writer.h"

namespace reshard {

// Modules that stand where other families have attention, or beside it; see modules.h.

/// Linear attention by the gated delta rule (Qwen3-Next, Qwen3.5), under "linear_attn": q and k in key heads, v and the
/// output gate z in value heads, of which each key head has as many; a short convolution over q, k and v; rates b and a
/// of every value head.
struct GatedDeltaNet {
  std::int64_t num_key_heads = 1;
  std::int64_t num_value_heads = 1;
  std::int64_t key_dim = 1;
  std::int64_t value_dim = 1;
  std::int64_t kernel = 1;
  /// One in_proj_qkvz and one in_proj_ba, key head by key head; false: in_proj_qkv, all of q, then of k, then of v, and
  /// z, b, a of their own.
  bool is_interleaved = false;
};

GatedDeltaNet read_gated_delta_net(ModelWriter* writer);
void add_gated_delta_net(const GatedDeltaNet& net, ModelWriter* writer);

/// Kimi's delta attention, under "self_attn": as many heads of q, k and v, each with a convolution; gates f and g pass
/// through a low rank that all heads share.
struct KimiDeltaAttention {
  std::int64_t num_heads = 1;
  std::int64_t head_dim = 1;
  std::int64_t kernel = 1;
};

KimiDeltaAttention read_kimi_delta_attention(ModelWriter* writer);
void add_kimi_delta_attention(const KimiDeltaAttention& attention, ModelWriter* writer);

/// What picks the keys of DeepSeek's sparse attention, under "self_attn.indexer". Everybody holds it whole: each rank
/// picks for all of its own heads.
struct Indexer {
  std::int64_t num_heads = 1;
  std::int64_t head_dim = 1;
  std::int64_t q_rank = 1;  ///< of the latent attention beside it
};

Indexer read_indexer(std::int64_t q_rank, ModelWriter* writer);
void add_indexer(const Indexer& indexer, ModelWriter* writer);

}  // namespace reshard
