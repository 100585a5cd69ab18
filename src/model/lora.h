// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/base/status.h"
#include "src/model/layout_text.h"
#include "src/model/parameter.h"
#include "src/model/placer.h"

namespace reshard {

/// With the key `lora` in the text: in place of the model's parameters, the adapters of its projections, under PEFT's
/// names: of a weight [out, in], "STEM.lora_A.weight" [rank, in] and "STEM.lora_B.weight" [out, rank]. Their other dims
/// are the weight's own, by which every scheme cuts them: B with a weight whose outputs are cut,
/// A with one whose inputs are. Errors: lora_targets without lora, a target that no projection of the model is called,
/// quant beside lora, a model without projections that are adapted; RESHARD_ERR_NOT_SUPPORTED for a kind of layout
/// whose adapters are not known.
Status take_adapters(const LayoutText& text, Model* model);

/// The names of adapters: vLLM's lora_a_stacked and lora_b_stacked have an entry for each projection that is fused in a
/// layer; PEFT on Megatron adapts linear_qkv and linear_fc1 as they are, with one A for all of them.
void name_vllm_adapters(Scheme* scheme);
void name_megatron_adapters(Scheme* scheme);

}  // namespace reshard
