// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/decoders.h"

#include <algorithm>

namespace reshard {

void add_layer(ModelWriter* writer, const std::function<void()>& attention, const std::function<void()>& ffn) {
  writer->norm("attention_norm", "input_layernorm");
  attention();
  writer->norm("mlp_norm", "post_attention_layernorm");
  ffn();
}

void add_decoder(ModelWriter* writer, const AddToLayer& attention, const AddToLayer& ffn) {
  writer->embedding();
  writer->layers(writer->module() + ".layers", [&](std::int64_t layer) {
    add_layer(
        writer, [&] { attention(layer); }, [&] { ffn(layer); });
  });
  writer->norm("final_norm", writer->module() + ".norm");
  writer->output();
}

void add_decoder(ModelWriter* writer, const std::function<void()>& attention, const AddToLayer& ffn) {
  add_decoder(
      writer, [&](std::int64_t) { attention(); }, ffn);
}

void add_decoder(ModelWriter* writer, const Attention& attention, const Mlp& mlp) {
  add_decoder(
      writer, [&] { add_attention(attention, writer); }, [&](std::int64_t) { add_mlp(mlp, writer); });
}

void add_moe_ffn(const MoeFfn& ffn, std::int64_t layer, ModelWriter* writer) {
  if (!writer->model().is_moe[static_cast<std::size_t>(layer)]) return add_mlp(ffn.dense, writer);
  add_experts(ffn.routed, writer);
  if (ffn.shared.width > 0) add_mlp(ffn.shared, writer);
  if (ffn.has_shared_weight) {
    writer->linear("shared.weight", ffn.routed.prefix + ".shared_expert_gate", {Axis::kPlain, 1}, writer->hidden());
  }
}

void add_moe_decoder(ModelWriter* writer, const AddToLayer& attention, const MoeFfn& ffn) {
  add_decoder(writer, attention, [&](std::int64_t layer) { add_moe_ffn(ffn, layer, writer); });
}

void serve_biases_of(std::initializer_list<std::string_view> roles, ModelWriter* writer) {
  for (Param& param : writer->model().params) {
    if (param.leaf == "bias") param.is_on_servers = std::find(roles.begin(), roles.end(), param.role) != roles.end();
  }
}

MoeFfn read_qwen_ffn(ModelWriter* writer) {
  ConfigReader& config = writer->config();
  MoeFfn ffn;
  // transformers 5 writes num_local_experts where 4 wrote num_experts.
  ffn.routed.count = config.count("num_experts|num_local_experts", ConfigReader::kExperts);
  ffn.routed.width = config.count("moe_intermediate_size", ConfigReader::kWidth);
  ffn.shared.width = 0;
  const auto step = static_cast<std::size_t>(config.count_or("decoder_sparse_step", ConfigReader::kLayers, 1));
  std::vector<bool>& is_moe = writer->model().is_moe;
  // Counted from 1: with step 2 the layers 1, 3, 5 have experts. DeepSeek's frequency, below, counts from 0.
  for (std::size_t layer = 0; layer < is_moe.size(); ++layer) is_moe[layer] = (layer + 1) % step == 0;
  for (const std::int64_t layer : config.counts("mlp_only_layers", ConfigReader::kLayers)) {
    if (static_cast<std::size_t>(layer) < is_moe.size()) is_moe[static_cast<std::size_t>(layer)] = false;
  }
  // Configs without dense layers need not say how wide those would be.
  if (std::find(is_moe.begin(), is_moe.end(), false) != is_moe.end()) ffn.dense = read_mlp(writer);
  writer->model().num_experts = ffn.routed.count;
  return ffn;
}

void read_qwen_shared(MoeFfn* ffn, ModelWriter* writer) {
  ffn->shared.prefix = "mlp.shared_expert";
  ffn->shared.width = writer->config().count("shared_expert_intermediate_size", ConfigReader::kWidth);
  ffn->shared.part = Part::kSharedExperts;
  ffn->has_shared_weight = true;
}

MoeFfn read_deepseek_ffn(ModelWriter* writer, std::int64_t num_dense_unless_told) {
  ConfigReader& config = writer->config();
  std::vector<bool>& is_moe = writer->model().is_moe;
  MoeFfn ffn;
  ffn.dense = read_mlp(writer);
  ffn.routed.count = config.count("n_routed_experts|num_experts|num_local_experts", ConfigReader::kExperts);
  ffn.routed.width = config.count("moe_intermediate_size", ConfigReader::kWidth);
  ffn.shared.prefix = "mlp.shared_experts";
  ffn.shared.width =
      config.count_or("n_shared_experts|num_shared_experts", ConfigReader::kExperts, 0, 0) * ffn.routed.width;
  ffn.shared.part = Part::kSharedExperts;
  const auto num_dense = static_cast<std::size_t>(
      config.count_or("first_k_dense_replace", ConfigReader::kLayers, num_dense_unless_told, 0));
  const auto frequency = static_cast<std::size_t>(config.count_or("moe_layer_freq", ConfigReader::kLayers, 1));
  for (std::size_t layer = num_dense; layer < is_moe.size(); ++layer) is_moe[layer] = layer % frequency == 0;
  // transformers 5 writes the kind of every layer.
  const std::vector<bool> kinds = config.choices("mlp_layer_types", is_moe.size(), "sparse", "dense");
  if (!kinds.empty()) is_moe = kinds;
  writer->model().num_experts = ffn.routed.count;
  return ffn;
}

void add_decoder_of_four_norms(ModelWriter* writer, const Attention& attention, const FourNorms& norms,
                               const Mlp& mlp) {
  writer->embedding();
  writer->layers(writer->module() + ".layers", [&](std::int64_t) {
    writer->norm("attention_norm", "input_layernorm");
    add_attention(attention, writer);
    writer->norm("attention_post_norm", norms.behind_attention);
    writer->norm("mlp_norm", norms.before_mlp);
    add_mlp(mlp, writer);
    writer->norm("mlp_post_norm", norms.behind_mlp);
  });
  writer->norm("final_norm", writer->module() + ".norm");
  writer->output();
}

Mlp read_mlp(ModelWriter* writer) {
  Mlp mlp;
  mlp.width = writer->config().count("intermediate_size", ConfigReader::kWidth);
  return mlp;
}

}  // namespace reshard
