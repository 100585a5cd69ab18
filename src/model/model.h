// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "src/base/status.h"
#include "src/layout/layout.h"
#include "src/model/parameter.h"

namespace reshard {

/// Where in a world a layout lies, and which part of the model it has.
struct ModelLayoutOptions {
  std::int64_t num_layers = 0;                ///< keep the first N decoder layers; 0: all
  std::int32_t num_ranks = 0;                 ///< of the world; 0: as many as the layout needs
  std::int32_t first_rank = 0;                ///< the layout's rank i is rank first_rank + i of the world
  std::vector<std::int32_t> ranks = {};       ///< instead, when not empty: it is ranks[i]
  std::optional<DType> dtype = std::nullopt;  ///< in place of the config's; what is fp32 in every model stays
  std::vector<std::string> include =
      {};  ///< names of tensors to keep, * for any run of characters, ? for one; empty: all
  std::vector<std::string> exclude = {};  ///< of those, names to leave out
};

/// The layout of a whole model from the text of its config.json and a line such as "megatron:tp=2,pp=2"; the README of
/// this folder lists the kinds and their keys.
/// Errors: RESHARD_ERR_INVALID_ARGUMENT for malformed or contradictory input and for a pattern that fits no tensor,
/// RESHARD_ERR_NOT_SUPPORTED for another model family, RESHARD_ERR_IO for an unreadable eplb file.
Result<ModelLayout> make_model_layout(const std::string& config_json, const std::string& layout_text,
                                      const ModelLayoutOptions& options = {});

/// The same of a model that has been read; num_layers and dtype of the options are for reading and not looked at here.
Result<ModelLayout> make_model_layout(Model model, const std::string& layout_text,
                                      const ModelLayoutOptions& options = {});

/// How many ranks a line such as "vllm:tp=2,replicas=4" needs.
Result<std::int32_t> layout_text_num_ranks(const std::string& text);

}  // namespace reshard
