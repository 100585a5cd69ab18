// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/status.h"
#include "src/model/config_reader.h"
#include "src/model/parameter.h"

namespace reshard {

/// What of a config.json is not taken as it stands there.
struct ModelReadOptions {
  std::int64_t num_layers = 0;                ///< keep the first N decoder layers; 0: all
  std::optional<DType> dtype = std::nullopt;  ///< in place of the config's; what is fp32 in every model stays
  std::int64_t num_mtp_layers = 0;  ///< take along so many layers for multi-token prediction, or all if there are fewer
};

/// Writes down the parameters of a model in the order of its forward pass: first those before the layers, then
/// layers(), then those behind them. A family is a function that does this with the modules of modules.h.
class ModelWriter {
 public:
  /// Reads what all families have: hidden size, layers, vocabulary, whether embeddings are tied, the type.
  ModelWriter(ConfigReader* config, const ModelReadOptions& options);

  ConfigReader& config() { return *config_; }
  Model& model() { return model_; }
  Dim hidden() const { return {Axis::kHidden, hidden_size_}; }
  std::int64_t hidden_size() const { return hidden_size_; }
  /// Layers that config.json has, also those that are not kept: what patterns of layers count in.
  std::size_t num_config_layers() const {
    return model_.is_moe.size() - static_cast<std::size_t>(model_.num_mtp_layers);
  }

  /// A parameter at the place where the writer is; `role` is a literal, see Param. The reference is good until the next
  /// one is added.
  Param& add(std::string_view role, std::string stem, std::string leaf, std::vector<Dim> dims);

  /// A weight [out, in] and, with `has_bias`, a bias [out].
  void linear(std::string_view role, const std::string& stem, Dim out, Dim in, bool has_bias = false);

  /// The weights from params[first] on are stored [in, out].
  void transpose_from(std::size_t first);

  /// The weight of a norm over the hidden size; with `has_bias` its bias, too.
  void norm(std::string_view role, const std::string& stem, bool has_bias = false);

  /// The token embedding, by default "MODULE.embed_tokens", and the output layer unless it is the same.
  void embedding(const std::string& stem = "");
  void output(const std::string& stem = "lm_head");

  /// Calls `layer` for each layer that is kept, which adds the layer's parameters under "PREFIX.N."; what is added from
  /// then on lies behind the layers.
  void layers(const std::string& prefix, const std::function<void(std::int64_t layer)>& layer);

  /// What is added from here on is a vision tower, with hidden() of its own and tower_layers() for layers(); it comes
  /// before everything else.
  void begin_tower(std::int64_t hidden_size);
  void tower_layers(const std::string& prefix, std::int64_t num_layers,
                    const std::function<void(std::int64_t layer)>& layer);
  /// The decoder behind a tower; its parameters are in the module of this name.
  void begin_decoder(const std::string& module);

  /// What is added from here on is for multi-token prediction and lies behind the decoder: so many layers, with
  /// mtp_layers(), as were asked for and the config has, or says nothing of and the family has. They have experts.
  std::int64_t begin_mtp(std::int64_t num_unless_told);
  /// As layers(), where numbers in the checkpoint's names count from first_number; `layer` gets the place in
  /// Model::is_moe.
  void mtp_layers(const std::string& prefix, std::int64_t first_number,
                  const std::function<void(std::int64_t layer)>& layer);
  /// What is added up to mtp_layers() is outside the layers.
  void open_mtp_front() { open_stack(Stack::Kind::kBefore, "", 1); }

  /// In which module a decoder's embedding, layers and last norm are: "model".
  const std::string& module() const { return module_; }

  /// The model, or the first fault of the config. Error: more than 2^60 elements in all, so that sums of bytes stay
  /// within 64 bits.
  Result<Model> take() &&;

 private:
  void open_stack(Stack::Kind kind, const std::string& prefix, std::int64_t num_layers);

  ConfigReader* config_;
  std::int64_t wanted_mtp_layers_;
  Model model_;
  std::int64_t hidden_size_ = 1;          // of the tower while it is written
  std::int64_t decoder_hidden_size_ = 1;  // always the decoder's
  std::string module_ = "model";
  bool is_in_tower_ = false, is_in_mtp_ = false;
  std::int64_t layer_ = 0;  // where the writer is in the stack that is open, the last one
};

/// Reads the family of a config.json by its row.
struct Family {
  std::string_view model_type;
  void (*describe)(ModelWriter*);
};

}  // namespace reshard
