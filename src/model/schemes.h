// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>

#include "src/base/status.h"
#include "src/model/layout_builder.h"
#include "src/model/layout_text.h"

namespace reshard {

// Each kind of layout in two steps: how many ranks its text needs (which also checks the settings against each other),
// and where its ranks hold every parameter of the builder's model, ranks counted from 0.

Result<std::int32_t> fsdp_num_ranks(const LayoutText& text);
Status place_fsdp(const LayoutText& text, LayoutBuilder* builder);

Result<std::int32_t> megatron_num_ranks(const LayoutText& text);
Status place_megatron(const LayoutText& text, LayoutBuilder* builder);

Result<std::int32_t> vllm_num_ranks(const LayoutText& text);
Status place_vllm(const LayoutText& text, LayoutBuilder* builder);

Result<std::int32_t> sglang_num_ranks(const LayoutText& text);
Status place_sglang(const LayoutText& text, LayoutBuilder* builder);

Result<std::int32_t> checkpoint_num_ranks(const LayoutText& text);
Status place_checkpoint(const LayoutText& text, LayoutBuilder* builder);

}  // namespace reshard
