// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <functional>

#include "src/base/status.h"
#include "src/model/decoders.h"
#include "src/model/layout_text.h"

namespace reshard {

// Layers for multi-token prediction: behind the decoder, each makes of the decoder's last state and the embedding of
// the next token the state that predicts the token after it. Each has a norm of both, a projection of both together, a
// decoder layer and a last norm; embedding and output layer are the model's own.

/// How checkpoints name what such a layer has beside the decoder layer.
enum class MtpForm {
  kNextn,  ///< DeepSeek's: numbers go on behind the decoder's, "model.layers.61.eh_proj"; the file has copies of
           ///< embedding and output layer in each
  kQwen,   ///< "mtp.layers.0", with the projection and the norms once, outside: "mtp.fc"
};

/// Adds the layers that are asked for. `num_unless_told`: how many the family has where the config does not say.
void add_mtp_layers(MtpForm form, std::int64_t num_unless_told, const std::function<void()>& attention,
                    const AddToLayer& ffn, ModelWriter* writer);

/// The key `mtp`: how many are taken along. Error: kinds and keys that go without.
Result<std::int32_t> read_num_mtp_layers(const LayoutText& text);

/// Error: the model has fewer than the text says, or was not read with them.
Status check_mtp_layers(const LayoutText& text, const Model& model);

}  // namespace reshard
