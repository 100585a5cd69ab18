// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/decoders.h"

namespace reshard {

void add_decoder(ModelWriter* writer, const std::function<void()>& attention,
                 const std::function<void(std::int64_t layer)>& ffn) {
  writer->embedding();
  writer->layers("model.layers", [&](std::int64_t layer) {
    writer->norm("attention_norm", "input_layernorm");
    attention();
    writer->norm("mlp_norm", "post_attention_layernorm");
    ffn(layer);
  });
  writer->norm("final_norm", "model.norm");
  writer->output();
}

void add_decoder(ModelWriter* writer, const Attention& attention, const Mlp& mlp) {
  add_decoder(
      writer, [&] { add_attention(attention, writer); }, [&](std::int64_t) { add_mlp(mlp, writer); });
}

void add_moe_decoder(ModelWriter* writer, const std::function<void()>& attention, const Mlp& mlp,
                     const Experts& experts, const Mlp& shared) {
  add_decoder(writer, attention, [&](std::int64_t layer) {
    if (!writer->model().is_moe[static_cast<std::size_t>(layer)]) return add_mlp(mlp, writer);
    add_experts(experts, writer);
    if (shared.width > 0) add_mlp(shared, writer);
  });
}

void add_decoder_of_four_norms(ModelWriter* writer, const Attention& attention, const FourNorms& norms,
                               const Mlp& mlp) {
  writer->embedding();
  writer->layers("model.layers", [&](std::int64_t) {
    writer->norm("attention_norm", "input_layernorm");
    add_attention(attention, writer);
    writer->norm("attention_post_norm", norms.behind_attention);
    writer->norm("mlp_norm", norms.before_mlp);
    add_mlp(mlp, writer);
    writer->norm("mlp_post_norm", norms.behind_mlp);
  });
  writer->norm("final_norm", "model.norm");
  writer->output();
}

Mlp read_mlp(ModelWriter* writer) {
  Mlp mlp;
  mlp.width = writer->config().count("intermediate_size", ConfigReader::kWidth);
  return mlp;
}

}  // namespace reshard
