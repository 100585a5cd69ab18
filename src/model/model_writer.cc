// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/model_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "src/layout/box.h"

namespace reshard {

ModelWriter::ModelWriter(ConfigReader* config, const ModelReadOptions& options)
    : config_(config), wanted_mtp_layers_(options.num_mtp_layers) {
  const std::int64_t num_layers = config->count("num_hidden_layers|n_layer", ConfigReader::kLayers);
  model_.num_layers = options.num_layers > 0 ? options.num_layers : num_layers;
  if (options.num_layers < 0 || options.num_layers > num_layers) {
    config->fail(
        invalid_argument(fmt::format("cannot keep {} layers of num_hidden_layers = {}; give 1 to {}, or 0 for all",
                                     options.num_layers, num_layers, num_layers)));
    model_.num_layers = num_layers;
  }
  // By layer of the whole model, also where only the first are kept: rows of expert maps, and lists of dense layers,
  // count the layers that config.json has.
  model_.is_moe.assign(static_cast<std::size_t>(num_layers), false);
  hidden_size_ = decoder_hidden_size_ = config->count("hidden_size|n_embd", ConfigReader::kWidth);
  model_.vocab_size = config->count("vocab_size", ConfigReader::kVocab);
  model_.tie_embeddings = config->flag("tie_word_embeddings");
  model_.dtype = options.dtype.value_or(config->dtype());
  open_stack(Stack::Kind::kBefore, "", 1);
}

void ModelWriter::open_stack(Stack::Kind kind, const std::string& prefix, std::int64_t num_layers) {
  // What lies before the layers, and what lies behind them, is one group, as a layer is.
  const std::int64_t first_group =
      model_.stacks.empty() ? 0 : model_.stacks.back().first_group + model_.stacks.back().num_layers;
  model_.stacks.push_back({kind, prefix, is_in_tower_, num_layers, first_group, is_in_mtp_});
  layer_ = 0;
}

Param& ModelWriter::add(std::string_view role, std::string stem, std::string leaf, std::vector<Dim> dims) {
  Param& param = model_.params.emplace_back();
  param.role = role;
  param.stem = std::move(stem);
  param.leaf = std::move(leaf);
  param.dims = std::move(dims);
  param.output = !param.dims.empty() && param.dims[0].axis == Axis::kExpert ? 1 : 0;
  param.dtype = model_.dtype;
  param.stack = static_cast<std::int64_t>(model_.stacks.size()) - 1;
  param.layer = layer_;
  return param;
}

void ModelWriter::linear(std::string_view role, const std::string& stem, Dim out, Dim in, bool has_bias) {
  add(role, stem, "weight", {out, in});
  if (has_bias) add(role, stem, "bias", {out});
}

void ModelWriter::transpose_from(std::size_t first) {
  for (std::size_t i = first; i < model_.params.size(); ++i) {
    Param& param = model_.params[i];
    if (param.dims.size() != 2) continue;
    std::swap(param.dims[0], param.dims[1]);
    param.output = 1;
    param.is_transposed = true;
  }
}

void ModelWriter::norm(std::string_view role, const std::string& stem, bool has_bias) {
  add(role, stem, "weight", {hidden()});
  if (has_bias) add(role, stem, "bias", {hidden()});
}

void ModelWriter::embedding(const std::string& stem) {
  add("embedding", stem.empty() ? module_ + ".embed_tokens" : stem, "weight",
      {{Axis::kVocab, model_.vocab_size}, hidden()});
}

void ModelWriter::output(const std::string& stem) {
  if (!model_.tie_embeddings) linear("output", stem, {Axis::kVocab, model_.vocab_size}, hidden());
}

void ModelWriter::layers(const std::string& prefix, const std::function<void(std::int64_t layer)>& layer) {
  tower_layers(prefix, model_.num_layers, layer);
}

void ModelWriter::begin_tower(std::int64_t hidden_size) {
  is_in_tower_ = true;
  model_.stacks.back().is_vision = true;  // the one that the constructor has opened, and nothing is in
  hidden_size_ = hidden_size;
}

void ModelWriter::tower_layers(const std::string& prefix, std::int64_t num_layers,
                               const std::function<void(std::int64_t layer)>& layer) {
  open_stack(Stack::Kind::kLayers, prefix, num_layers);
  for (layer_ = 0; layer_ < num_layers; ++layer_) layer(layer_);
  open_stack(Stack::Kind::kBehind, "", 1);
}

void ModelWriter::begin_decoder(const std::string& module) {
  is_in_tower_ = false;
  module_ = module;
  hidden_size_ = decoder_hidden_size_;
  open_stack(Stack::Kind::kBefore, "", 1);
}

std::int64_t ModelWriter::begin_mtp(std::int64_t num_unless_told) {
  // A model that is read without them is as one whose config does not speak of them.
  if (wanted_mtp_layers_ == 0) return 0;
  model_.max_mtp_layers =
      config_->count_or("num_nextn_predict_layers|mtp_num_hidden_layers", ConfigReader::kLayers, num_unless_told, 0);
  model_.num_mtp_layers = std::min(wanted_mtp_layers_, model_.max_mtp_layers);
  model_.is_moe.insert(model_.is_moe.end(), static_cast<std::size_t>(model_.num_mtp_layers), model_.num_experts > 0);
  is_in_mtp_ = true;
  return model_.num_mtp_layers;
}

void ModelWriter::mtp_layers(const std::string& prefix, std::int64_t first_number,
                             const std::function<void(std::int64_t layer)>& layer) {
  const auto first = static_cast<std::int64_t>(num_config_layers());
  const std::size_t stack = model_.stacks.size();
  tower_layers(prefix, model_.num_mtp_layers, [&](std::int64_t i) { layer(first + i); });
  model_.stacks[stack].first_number = first_number;
}

Result<Model> ModelWriter::take() && {
  RESHARD_TRY(config_->status());
  constexpr std::int64_t kMaxElements = std::int64_t{1} << 60;
  std::int64_t total = 0;
  for (const Param& param : model_.params) {
    RESHARD_TRY(const std::int64_t count, checked_num_elements(shape_of(param)));
    if (count > kMaxElements - total) {
      return invalid_argument(fmt::format("config: the model has more than 2^60 parameters, from {} of shape [{}] on",
                                          checkpoint_name(model_, param), fmt::join(shape_of(param), ", ")));
    }
    total += count;
  }
  return std::move(model_);
}

}  // namespace reshard
