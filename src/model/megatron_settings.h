// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/status.h"
#include "src/model/layout_builder.h"
#include "src/model/layout_text.h"
#include "src/model/parameter.h"
#include "src/model/stages.h"

namespace reshard {

/// What a "megatron:" text says of a trainer.
struct MegatronSettings {
  std::int32_t tp = 1;
  std::int32_t cp = 1;
  std::int32_t pp = 1;
  std::int32_t vpp = 1;
  std::int32_t dp = 1;
  std::int32_t ep = 1;
  std::int32_t etp = 1;              ///< 1 unless given; Megatron itself would take tp
  std::vector<std::int64_t> layers;  ///< per stage, no-op ones included; empty: as first and last say, or balanced
  std::vector<std::int64_t> vision_layers;  ///< of a vision tower, per stage; empty: all on the first
  std::vector<std::int64_t> mtp_layers;     ///< for multi-token prediction, per stage; empty: all on the last
  std::int32_t first = 0;                   ///< layers of the first stage; 0: as many as the others
  std::int32_t last = 0;                    ///< of the last
  std::vector<std::int64_t> noop;           ///< places without a layer
  std::int32_t vocab_multiple = 128;        ///< the vocabulary is padded to a multiple of this times tp
  std::int32_t glu_interleave = 0;  ///< rows of a block of gate, then of up, in routed experts; 0: all, then all
  std::string experts = "each";     ///< each (TEGroupedMLP), local (SequentialMLP), gmm (GroupedMLP)
  bool counts_in_chunk = false;     ///< layer numbers in names are those of a stage's chunk, not the model's
  std::string mla_down = "whole";   ///< whole, cut (latent rows over tp), fused (q and kv one parameter, whole)
  bool splits_mla_up = false;       ///< up-projections are four: nope and rope of q, nope and v of kv
};

/// The settings of a text, checked against each other.
Result<MegatronSettings> read_megatron_settings(const LayoutText& text);

/// Errors: parameters for which Megatron-Core has no module, or holds other values than the checkpoint.
Status check_megatron_modules(const LayoutText& text, const MegatronSettings& settings, const LayoutBuilder& builder);

/// What Megatron itself demands of the sizes; widths are checked where they are cut.
Status check_megatron_sizes(const LayoutText& text, const MegatronSettings& settings, const Model& model);

/// Where the layers of a vision tower are. Error: vision_layers for a model without one.
Result<Stages> megatron_vision_stages(const LayoutText& text, const MegatronSettings& settings, const Model& model);

/// Where the layers for multi-token prediction are: all on one stage, in its last chunk, the last unless told. Errors:
/// layers of several stages, or of one before the end of the decoder; of a model that Megatron-Core builds otherwise.
Result<Stages> megatron_mtp_stages(const LayoutText& text, const MegatronSettings& settings, const Model& model,
                                   const Stages& decoder);

/// Where the layers are. Without layers, first and last: balanced, the larger stages first.
Result<Stages> megatron_stages(const LayoutText& text, const MegatronSettings& settings, const Model& model);

}  // namespace reshard
