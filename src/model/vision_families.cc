// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Models that see: a vision tower, whose patches pass through layers of its own, a merger (or projector) that makes
// inputs of a decoder of several neighbouring patches, and that decoder, a family of its own under text_config.
// Published configs of Qwen2.5-VL have the decoder's keys at the top, those that transformers 5 writes in text_config;
// both are read. Servers have the tower on every pipeline stage.
#include <fmt/format.h>

#include <algorithm>

#include "src/model/decoders.h"
#include "src/model/families.h"

namespace reshard {
namespace {

using Config = ConfigReader;

/// What the towers of Qwen have in common.
struct VisionTower {
  std::string module = "visual";
  std::int64_t depth = 1;
  std::int64_t hidden_size = 1;
  std::int64_t merged_size = 1;  ///< of the patches that are merged into one, together
  std::int64_t out_size = 1;     ///< what the decoder gets
  Attention attention;
  Mlp mlp;
};

/// Linear layers of a tower all have biases, and there are as many key heads as query heads.
VisionTower read_tower(const std::string& module, Config* config) {
  VisionTower tower;
  tower.module = module;
  tower.depth = config->count("depth", Config::kLayers);
  tower.hidden_size = config->count("hidden_size", Config::kWidth);
  const std::int64_t merge = config->count_or("spatial_merge_size", Config::kHeads, 2);
  tower.merged_size = tower.hidden_size * merge * merge;
  tower.out_size = config->count("out_hidden_size", Config::kWidth);
  const std::int64_t heads = config->count("num_heads", Config::kHeads);
  if (tower.hidden_size % heads != 0) {
    config->fail(invalid_argument(fmt::format("config: vision_config: num_heads = {} does not divide hidden_size = {}",
                                              heads, tower.hidden_size)));
  }
  tower.attention.prefix = "attn";
  tower.attention.qkv = "qkv";
  tower.attention.o = "proj";
  tower.attention.num_heads = tower.attention.num_kv_heads = heads;
  tower.attention.head_dim = std::max<std::int64_t>(1, tower.hidden_size / heads);
  tower.attention.has_qkv_bias = tower.attention.has_output_bias = true;
  tower.mlp.width = config->count("intermediate_size", Config::kWidth);
  tower.mlp.has_bias = true;
  return tower;
}

/// A convolution that makes one vector of a patch, of some pixels in some successive pictures.
void add_patches(const VisionTower& tower, Config* config, bool has_bias, ModelWriter* writer) {
  const std::int64_t channels = config->count_or("in_channels|in_chans", Config::kHeads, 3);
  const std::int64_t pictures = config->count_or("temporal_patch_size", Config::kHeads, 2);
  const Dim side{Axis::kPlain, config->count("patch_size", Config::kHeads)};
  const std::string stem = tower.module + ".patch_embed.proj";
  writer->add("vision.patches", stem, "weight",
              {writer->hidden(), {Axis::kPlain, channels}, {Axis::kPlain, pictures}, side, side});
  if (has_bias) writer->add("vision.patches", stem, "bias", {writer->hidden()});
}

void add_blocks(const VisionTower& tower, bool has_norm_bias, ModelWriter* writer) {
  writer->tower_layers(tower.module + ".blocks", tower.depth, [&](std::int64_t) {
    writer->norm("attention_norm", "norm1", has_norm_bias);
    add_attention(tower.attention, writer);
    writer->norm("mlp_norm", "norm2", has_norm_bias);
    add_mlp(tower.mlp, writer);
  });
}

/// What the layers of a merger are called by role, and in the checkpoint.
struct Merger {
  std::string_view up_role, down_role;
  std::string up, down;
};

/// Two layers, the first as wide as the merged patches, nothing gated.
void add_merger(const VisionTower& tower, const Merger& merger, ModelWriter* writer) {
  const Dim merged{Axis::kFfn, tower.merged_size}, out{Axis::kHidden, tower.out_size};
  writer->linear(merger.up_role, merger.up, merged, {Axis::kPlain, tower.merged_size}, /*has_bias=*/true);
  writer->linear(merger.down_role, merger.down, out, merged, /*has_bias=*/true);
}

void end_tower(const std::string& decoder_module, ModelWriter* writer) {
  for (Param& param : writer->model().params) param.is_on_every_server_stage = true;
  writer->begin_decoder(decoder_module);
}

/// The decoder is one of this family.
void add_decoder_of(std::string_view model_type, ModelWriter* writer) {
  for (const Family& family : known_families()) {
    if (family.model_type == model_type) family.describe(writer);
  }
}

/// Published files have the tower beside "model"; so do vLLM's names, but a model that transformers has loaded has both
/// parts in there.
void qwen2_5_vl(ModelWriter* writer) {
  Config config = writer->config().part("vision_config");
  const VisionTower tower = read_tower("visual", &config);
  writer->model().server.prefixes = {{"model.", "language_model.model."}, {"lm_head.", "language_model.lm_head."}};
  writer->model().loaded_prefixes = {{"model.", "model.language_model."}, {"visual.", "model.visual."}};
  writer->begin_tower(tower.hidden_size);
  add_patches(tower, &config, /*has_bias=*/false, writer);
  add_blocks(tower, /*has_norm_bias=*/false, writer);
  writer->norm("projector.norm", "visual.merger.ln_q");
  add_merger(tower, {"projector.up", "projector.down", "visual.merger.mlp.0", "visual.merger.mlp.2"}, writer);
  end_tower("model", writer);
  writer->config().fail(config.status());
  add_decoder_of("qwen2", writer);
}

/// `deepstack_visual_indexes` names layers of the tower whose outputs go to the decoder, too, each through a merger of
/// its own with a norm as wide as the merged patches.
void add_deepstack(const VisionTower& tower, Config* config, ModelWriter* writer) {
  const std::vector<std::int64_t> merged_layers = config->counts("deepstack_visual_indexes", Config::kLayers);
  for (std::size_t i = 0; i < merged_layers.size(); ++i) {
    if (merged_layers[i] >= tower.depth || merged_layers.size() > static_cast<std::size_t>(tower.depth)) {
      config->fail(invalid_argument(fmt::format(
          "config: vision_config: deepstack_visual_indexes names {} layers and among them {}, but depth is {}",
          merged_layers.size(), merged_layers[i], tower.depth)));
      break;
    }
    const std::string deep = "model.visual.deepstack_merger_list." + std::to_string(i) + ".";
    for (const char* leaf : {"weight", "bias"}) {
      writer->add("deepstack.norm", deep + "norm", leaf, {{Axis::kPlain, tower.merged_size}});
    }
    add_merger(tower, {"deepstack.up", "deepstack.down", deep + "linear_fc1", deep + "linear_fc2"}, writer);
  }
}

/// Positions have an embedding, the MLP is not gated.
void add_qwen3_tower(ModelWriter* writer) {
  Config config = writer->config().part("vision_config");
  VisionTower tower = read_tower("model.visual", &config);
  tower.mlp.is_gated = false;
  tower.mlp.up = "linear_fc1";
  tower.mlp.down = "linear_fc2";
  writer->model().server.prefixes = {{"model.language_model.", "language_model.model."},
                                     {"lm_head.", "language_model.lm_head."},
                                     {"model.visual.", "visual."}};
  writer->begin_tower(tower.hidden_size);
  add_patches(tower, &config, /*has_bias=*/true, writer);
  const std::int64_t positions = config.count("num_position_embeddings", Config::kVocab);
  writer->linear("vision.positions", "model.visual.pos_embed", {Axis::kPlain, positions}, writer->hidden());
  add_blocks(tower, /*has_norm_bias=*/true, writer);
  const std::string merger = "model.visual.merger.";
  writer->norm("projector.norm", merger + "norm", /*has_bias=*/true);
  add_merger(tower, {"projector.up", "projector.down", merger + "linear_fc1", merger + "linear_fc2"}, writer);
  add_deepstack(tower, &config, writer);
  end_tower("model.language_model", writer);
  writer->config().fail(config.status());
}

void qwen3_vl(ModelWriter* writer) {
  add_qwen3_tower(writer);
  add_decoder_of("qwen3", writer);
}

/// Experts are stacked as transformers 5 writes them: [experts, out, in]. Files of transformers 4, the published ones
/// among them, have [experts, in, out].
void qwen3_vl_moe(ModelWriter* writer) {
  add_qwen3_tower(writer);
  const Attention attention = read_qwen3_attention(writer);
  MoeFfn ffn = read_qwen_ffn(writer);
  ffn.routed.form = Experts::Form::kStackedOutIn;
  writer->model().server.repeats_outer = true;
  add_moe_decoder(
      writer, [&](std::int64_t) { add_attention(attention, writer); }, ffn);
}

void qwen3_5(ModelWriter* writer) {
  add_qwen3_tower(writer);
  add_decoder_of("qwen3_5_text", writer);
}

void qwen3_5_moe(ModelWriter* writer) {
  add_qwen3_tower(writer);
  add_decoder_of("qwen3_5_moe_text", writer);
}

constexpr Family kVisionFamilies[] = {
    {"qwen2_5_vl", qwen2_5_vl}, {"qwen3_vl", qwen3_vl},       {"qwen3_vl_moe", qwen3_vl_moe},
    {"qwen3_5", qwen3_5},       {"qwen3_5_moe", qwen3_5_moe},
};

}  // namespace

std::span<const Family> vision_families() {
  return kVisionFamilies;
}

}  // namespace reshard
