// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <optional>
#include <vector>

#include "src/layout/layout.h"
#include "src/model/layout_text.h"
#include "src/model/parameter.h"

namespace reshard {

/// What the keys `dtype` and `quant`, which all kinds of layouts have, say of the parameters' elements.
struct QuantSettings {
  std::optional<DType> dtype;         ///< of the tensors in place of the config's; of those that are quantised, F8_E4M3
  ScaleKind kind = ScaleKind::kNone;  ///< kNone: nothing is quantised
};

/// Errors: F8_E4M3 without quant, quant with another dtype, an unknown kind, or one that fused parameters cannot have.
Result<QuantSettings> read_quant_settings(const LayoutText& text);

/// Whether quantised servers hold the parameter in 8-bit floats: all matrices of the layers that tokens are multiplied
/// with, but routers, the weight of shared experts, and what is small or no matrix.
bool is_quantisable(const Model& model, const Param& param);

/// Error: a matrix that would be quantised and is stored [in, out].
Status check_quantisable(const LayoutText& text, const QuantSettings& settings, const Model& model);

/// Gives the parameters the dtypes that the settings say. Embedding, output layer and norms are not quantised.
void set_dtypes(const QuantSettings& settings, Model* model);

/// Adds the scale tensors of the quantised tensors to a layout in which all are placed: by the names and in the buffers
/// of vLLM, "..._scale_inv" of blocks and "..._scale" else, cut and fused as their weights.
/// Errors: a weight whose piece begins or ends inside a block.
Status add_scale_tensors(const LayoutText& text, const QuantSettings& settings, const std::vector<bool>& is_quantised,
                         ModelLayout* layout);

}  // namespace reshard
