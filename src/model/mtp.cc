// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/mtp.h"

#include <fmt/format.h>

namespace reshard {
namespace {

/// Both norms and the projection. Megatron-Core cuts its outputs as it cuts an MLP's width; of the servers' classes
/// some hold all of it on every rank.
void add_front(const std::string& embedding_norm, const std::string& hidden_norm, const std::string& projection,
               ModelWriter* writer) {
  const std::int64_t hidden = writer->hidden_size();
  writer->norm("mtp.embedding_norm", embedding_norm);
  writer->norm("mtp.hidden_norm", hidden_norm);
  writer->linear("mtp.projection", projection, {Axis::kFfn, hidden}, {Axis::kPlain, 2 * hidden});
}

/// What the file has once more; everybody else uses the model's own.
void add_copy(std::string_view role, const std::string& stem, ModelWriter* writer) {
  writer->linear(role, stem, {Axis::kVocab, writer->model().vocab_size}, writer->hidden());
  writer->model().params.back().is_copy = true;
}

void add_nextn_layer(const std::function<void()>& attention, const std::function<void()>& ffn, ModelWriter* writer) {
  std::vector<Param>& params = writer->model().params;
  add_copy("mtp.embedding", "embed_tokens", writer);
  add_front("enorm", "hnorm", "eh_proj", writer);
  params.back().is_cut_on_servers = false;
  const std::size_t first = params.size();
  add_layer(writer, attention, ffn);
  for (std::size_t i = first; i < params.size(); ++i) {
    params[i].server_stem = "mtp_block." + (params[i].server_stem.empty() ? params[i].stem : params[i].server_stem);
  }
  writer->norm("mtp.final_norm", "shared_head.norm");
  add_copy("mtp.output", "shared_head.head", writer);
}

}  // namespace

void add_mtp_layers(MtpForm form, std::int64_t num_unless_told, const std::function<void()>& attention,
                    const AddToLayer& ffn, ModelWriter* writer) {
  if (writer->begin_mtp(num_unless_told) == 0) return;
  if (form == MtpForm::kNextn) {
    const auto first_number = static_cast<std::int64_t>(writer->num_config_layers());
    writer->mtp_layers(writer->module() + ".layers", first_number, [&](std::int64_t layer) {
      add_nextn_layer(
          attention, [&] { ffn(layer); }, writer);
    });
    return;
  }
  writer->open_mtp_front();
  add_front("mtp.pre_fc_norm_embedding", "mtp.pre_fc_norm_hidden", "mtp.fc", writer);
  writer->mtp_layers("mtp.layers", 0, [&](std::int64_t layer) { add_layer(writer, attention, [&] { ffn(layer); }); });
  writer->norm("mtp.final_norm", "mtp.norm");
}

Result<std::int32_t> read_num_mtp_layers(const LayoutText& text) {
  RESHARD_TRY(const std::int32_t num_layers, text.integer("mtp", 0, 0));
  if (num_layers == 0) return num_layers;
  if (text.kind() == "fsdp") {
    return Status{RESHARD_ERR_NOT_SUPPORTED,
                  fmt::format("\"{}\": mtp is {}, but the models of transformers, which FSDP trainers shard, have no "
                              "layers for multi-token prediction; leave it out",
                              text.text(), num_layers)};
  }
  if (text.find("lora") != nullptr) {
    return text.error(
        fmt::format("mtp is {}, but layers for multi-token prediction have no adapters; leave mtp or lora "
                    "out",
                    num_layers));
  }
  return num_layers;
}

Status check_mtp_layers(const LayoutText& text, const Model& model) {
  RESHARD_TRY(const std::int32_t num_layers, read_num_mtp_layers(text));
  if (num_layers == model.num_mtp_layers) return {};
  if (model.max_mtp_layers == 0) {
    return text.error(fmt::format(
        "mtp is {}, but {} was read with no layers for multi-token prediction: either no such layers of the family are "
        "known here, or its config has none (num_nextn_predict_layers, mtp_num_hidden_layers); leave mtp out",
        num_layers, model.model_type));
  }
  return text.error(fmt::format("mtp is {}, but {} has {} layers for multi-token prediction; expected 0 to {}",
                                num_layers, model.model_type, model.max_mtp_layers, model.max_mtp_layers));
}

}  // namespace reshard
