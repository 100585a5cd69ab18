// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// Models of a vision tower and a decoder, against closed forms: two lists of layers per stage, heads of their own, a
// projector that is not gated.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "memory.h"

namespace reshard {
namespace {

using Json = nlohmann::json;
using Names = std::set<std::string>;
using testing::HasSubstr;

/// 3 layers of a tower, 2 heads of 2, 4 wide; 4 layers of a decoder, 4 heads of 1 in 2 groups.
Json tiny_qwen2_5_vl() {
  return {{"model_type", "qwen2_5_vl"},
          {"text_config",
           {{"num_hidden_layers", 4},
            {"hidden_size", 2},
            {"vocab_size", 10},
            {"num_attention_heads", 4},
            {"num_key_value_heads", 2},
            {"head_dim", 1},
            {"intermediate_size", 8}}},
          {"vision_config",
           {{"depth", 3},
            {"hidden_size", 4},
            {"intermediate_size", 4},
            {"num_heads", 2},
            {"out_hidden_size", 2},
            {"patch_size", 1},
            {"spatial_merge_size", 1},
            {"temporal_patch_size", 1}}}};
}

Json tiny_qwen3_vl() {
  Json config = changed(tiny_qwen2_5_vl(), {{"model_type", "qwen3_vl"}});
  config["vision_config"]["num_position_embeddings"] = 5;
  config["vision_config"]["deepstack_visual_indexes"] = {0, 2};
  return config;
}

/// Which modules a rank has something of: names without ".weight", and of a layer its number only.
Names modules_on(const ModelLayout& layout, std::int32_t rank) {
  Names modules;
  for (const auto& [name, elements] : memory_of(layout, rank).buffers) {
    std::size_t end = name.find("layers.");
    end = end == std::string::npos ? name.rfind('.') : name.find('.', end + std::string("layers.").size());
    modules.insert(name.substr(0, end));
  }
  return modules;
}

const std::string kTower = "image_encoder.encoder.blocks.layers.", kDecoder = "text_decoder.decoder.layers.";

TEST(SemanticsTest, Row27_TowerAndDecoderHaveListsOfLayersOfTheirOwn) {
  const ModelLayout layout = layout_of(tiny_qwen2_5_vl(), "megatron:pp=4,vision_layers=2-1-0-0,layers=0-1-2-1");
  // Patches are on the tower's first stage, the projector on its last, the embedding on the decoder's first.
  EXPECT_EQ(modules_on(layout, 0), (Names{"image_encoder.encoder.patch_embed.proj", kTower + "0", kTower + "1"}));
  EXPECT_EQ(
      modules_on(layout, 1),
      (Names{kTower + "2", "image_encoder.projector.layernorm", "image_encoder.projector.encoder.linear_fc1",
             "image_encoder.projector.encoder.linear_fc2", "text_decoder.embedding.word_embeddings", kDecoder + "0"}));
  EXPECT_EQ(modules_on(layout, 2), (Names{kDecoder + "1", kDecoder + "2"}));
  EXPECT_EQ(modules_on(layout, 3),
            (Names{kDecoder + "3", "text_decoder.decoder.final_layernorm", "text_decoder.output_layer"}));
}

TEST(SemanticsTest, Row27_TowerIsOnTheFirstStageUnlessToldOtherwise) {
  const ModelLayout layout = layout_of(tiny_qwen2_5_vl(), "megatron:pp=2");
  EXPECT_EQ(modules_on(layout, 0).count(kTower + "2"), 1U);
  EXPECT_EQ(modules_on(layout, 0).count("image_encoder.projector.encoder.linear_fc2"), 1U);
  EXPECT_EQ(modules_on(layout, 0).count(kDecoder + "1"), 1U);
  EXPECT_EQ(modules_on(layout, 1), (Names{kDecoder + "2", kDecoder + "3", "text_decoder.decoder.final_layernorm",
                                          "text_decoder.output_layer"}));
}

TEST(SemanticsTest, Row27_NumbersOfAChunkCountInEachList) {
  const ModelLayout layout = layout_of(tiny_qwen2_5_vl(), "megatron:pp=2,vision_layers=1-2,layers=1-3,names=chunk");
  const Names second = modules_on(layout, 1);
  for (const char* number : {"0", "1"}) EXPECT_EQ(second.count(kTower + number), 1U) << number;
  EXPECT_EQ(second.count(kTower + "2"), 0U);
  for (const char* number : {"0", "1", "2"}) EXPECT_EQ(second.count(kDecoder + number), 1U) << number;
}

TEST(SemanticsTest, Row27_TowerHasAGroupForEachHead) {
  // The file has all q, all k, all v, each 2 heads of 2; Megatron has q, k, v of one head, then of the other.
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const Memory memory = memory_of(layout_of(tiny_qwen2_5_vl(), "megatron:tp=2"), static_cast<std::int32_t>(rank));
    EXPECT_EQ(memory.defect, "");
    const auto row_of = [&](std::int64_t r) { return r / 2 * 4 + rank * 2 + r % 2; };
    const std::string qkv = "visual.blocks.1.attn.qkv.";
    expect_buffer(memory, kTower + "1.self_attention.linear_qkv.weight", {6, 4}, [&](const Index& i) {
      return Element{qkv + "weight", {row_of(i[0]), i[1]}};
    });
    expect_buffer(memory, kTower + "1.self_attention.linear_qkv.bias", {6}, [&](const Index& i) {
      return Element{qkv + "bias", {row_of(i[0])}};
    });
    // The decoder beside it: group g is q heads 2g and 2g + 1, k head g, v head g.
    const std::string attention = "model.layers.1.self_attn.";
    expect_buffer(memory, kDecoder + "1.self_attention.linear_qkv.weight", {4, 2}, [&](const Index& i) {
      if (i[0] < 2) return Element{attention + "q_proj.weight", {2 * rank + i[0], i[1]}};
      return Element{attention + (i[0] == 2 ? "k_proj.weight" : "v_proj.weight"), {rank, i[1]}};
    });
  }
}

TEST(SemanticsTest, Row27_ProjectorIsNotGatedButTheTowersMlpIs) {
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const Memory memory = memory_of(layout_of(tiny_qwen2_5_vl(), "megatron:tp=2"), static_cast<std::int32_t>(rank));
    const std::string projector = "image_encoder.projector.encoder.";
    expect_buffer(memory, projector + "linear_fc1.weight", {2, 4}, [&](const Index& i) {
      return Element{"visual.merger.mlp.0.weight", {rank * 2 + i[0], i[1]}};
    });
    expect_buffer(memory, projector + "linear_fc2.weight", {2, 2}, [&](const Index& i) {
      return Element{"visual.merger.mlp.2.weight", {i[0], rank * 2 + i[1]}};
    });
    expect_buffer(memory, projector + "linear_fc2.bias", {2}, [&](const Index& i) {
      return Element{"visual.merger.mlp.2.bias", {i[0]}};
    });
    expect_buffer(memory, kTower + "0.mlp.linear_fc1.bias", {4}, [&](const Index& i) {
      const char* half = i[0] < 2 ? "gate" : "up";
      return Element{std::string("visual.blocks.0.mlp.") + half + "_proj.bias", {rank * 2 + i[0] % 2}};
    });
  }
}

TEST(VisionFamiliesTest, ServersHaveTheTowerOnEveryStage) {
  const ModelLayout layout = layout_of(tiny_qwen3_vl(), "vllm:tp=2,pp=2");
  const std::string fc1 = "visual.deepstack_merger_list.1.linear_fc1.weight", file = "model." + fc1;
  for (std::int64_t rank = 0; rank < 4; ++rank) {
    const Memory memory = memory_of(layout, static_cast<std::int32_t>(rank));
    EXPECT_EQ(memory.defect, "");
    expect_buffer(memory, fc1, {2, 4}, [&](const Index& i) { return Element{file, {rank % 2 * 2 + i[0], i[1]}}; });
    EXPECT_EQ(memory.buffers.count("language_model.model.embed_tokens.weight"), rank < 2 ? 1U : 0U);
    EXPECT_EQ(memory.buffers.count("language_model.lm_head.weight"), rank < 2 ? 0U : 1U);
  }
  const Memory whole = memory_of(layout_of(tiny_qwen3_vl(), "vllm:tp=2,mm_encoder_tp_mode=data"), 1);
  expect_buffer(whole, fc1, {4, 4}, [&](const Index& i) { return Element{file, i}; });
}

TEST(VisionFamiliesTest, ExpertsOfQwen3VlMoeAreStackedWithGateBeforeUp) {
  Json config = changed(tiny_qwen3_vl(), {{"model_type", "qwen3_vl_moe"}});
  config["text_config"].update({{"num_experts", 3}, {"moe_intermediate_size", 4}});
  // gate_up_proj [3, 8, 2]: rows 0 to 3 of an expert are its gate. A rank of 2 has 2 of gate, then 2 of up, of each.
  const std::string experts = "layers.1.mlp.experts.", file = "model.language_model." + experts;
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const auto row_of = [&](std::int64_t row) { return row / 2 * 4 + rank * 2 + row % 2; };
    const Memory server = memory_of(layout_of(config, "vllm:tp=2"), static_cast<std::int32_t>(rank));
    EXPECT_EQ(server.defect, "");
    expect_buffer(server, "language_model.model." + experts + "routed_experts.w13_weight", {3, 4, 2},
                  [&](const Index& i) {
                    return Element{file + "gate_up_proj", {i[0], row_of(i[1]), i[2]}};
                  });
    expect_buffer(server, "language_model.model." + experts + "routed_experts.w2_weight", {3, 2, 2},
                  [&](const Index& i) {
                    return Element{file + "down_proj", {i[0], i[1], rank * 2 + i[2]}};
                  });
    const Memory trainer = memory_of(layout_of(config, "megatron:tp=2,etp=2"), static_cast<std::int32_t>(rank));
    EXPECT_EQ(trainer.defect, "");
    for (std::int64_t expert = 0; expert < 3; ++expert) {
      expect_buffer(trainer, kDecoder + "1.mlp.experts.linear_fc1.weight" + std::to_string(expert), {4, 2},
                    [&](const Index& i) {
                      return Element{file + "gate_up_proj", {expert, row_of(i[0]), i[1]}};
                    });
    }
  }
}

TEST(VisionFamiliesTest, TowerKeepsItsTypeWhereTheDecoderIsQuantised) {
  const ModelLayout layout = layout_of(tiny_qwen2_5_vl(), "vllm:quant=channel");
  int num_quantised = 0;
  for (const Tensor& tensor : layout.tensors()) {
    if (tensor.name.starts_with("visual.")) {
      EXPECT_EQ(tensor.dtype, DType::kBF16) << tensor.name;
    }
    num_quantised += tensor.dtype == DType::kF8E4M3 ? 1 : 0;
  }
  EXPECT_EQ(num_quantised, 4 * 7);
}

TEST(VisionFamiliesTest, PublishedSizes) {
  const Json qwen2_5 = {{"model_type", "qwen2_5_vl"},
                        {"hidden_size", 3584},
                        {"intermediate_size", 18944},
                        {"num_hidden_layers", 28},
                        {"num_attention_heads", 28},
                        {"num_key_value_heads", 4},
                        {"vocab_size", 152064},
                        {"tie_word_embeddings", false},
                        {"vision_config",
                         {{"depth", 32},
                          {"hidden_size", 1280},
                          {"intermediate_size", 3420},
                          {"num_heads", 16},
                          {"in_chans", 3},
                          {"out_hidden_size", 3584},
                          {"patch_size", 14},
                          {"spatial_merge_size", 2},
                          {"temporal_patch_size", 2}}}};
  EXPECT_EQ(num_parameters(qwen2_5), 8'292'166'656);
  const Json qwen3 = {{"model_type", "qwen3_vl"},
                      {"tie_word_embeddings", false},
                      {"text_config",
                       {{"hidden_size", 4096},
                        {"intermediate_size", 12288},
                        {"num_hidden_layers", 36},
                        {"num_attention_heads", 32},
                        {"num_key_value_heads", 8},
                        {"head_dim", 128},
                        {"vocab_size", 151936}}},
                      {"vision_config",
                       {{"depth", 27},
                        {"hidden_size", 1152},
                        {"intermediate_size", 4304},
                        {"num_heads", 16},
                        {"in_channels", 3},
                        {"out_hidden_size", 4096},
                        {"patch_size", 16},
                        {"spatial_merge_size", 2},
                        {"temporal_patch_size", 2},
                        {"num_position_embeddings", 2304},
                        {"deepstack_visual_indexes", {8, 16, 24}}}}};
  EXPECT_EQ(num_parameters(qwen3), 8'767'123'696);
}

TEST(VisionFamiliesTest, DecoderMayStandAtTheTop) {
  Json flat = tiny_qwen2_5_vl();
  flat.update(flat["text_config"]);
  flat.erase("text_config");
  EXPECT_EQ(layout_of(flat, "megatron:tp=2").digest(), layout_of(tiny_qwen2_5_vl(), "megatron:tp=2").digest());
}

TEST(VisionFamiliesTest, FaultsNameThePart) {
  Json config = tiny_qwen2_5_vl();
  config["vision_config"].erase("depth");
  EXPECT_THAT(error_of(config, "vllm"), HasSubstr("config: vision_config: depth is missing"));
  config = tiny_qwen2_5_vl();
  config["vision_config"]["num_heads"] = 3;
  EXPECT_THAT(error_of(config, "vllm"), HasSubstr("num_heads = 3 does not divide hidden_size = 4"));
  config = tiny_qwen3_vl();
  config["vision_config"]["deepstack_visual_indexes"] = {0, 3};
  EXPECT_THAT(error_of(config, "vllm"), HasSubstr("names 2 layers and among them 3, but depth is 3"));
  config.erase("vision_config");
  EXPECT_THAT(error_of(config, "vllm"), HasSubstr("config: vision_config is missing"));
  config["vision_config"] = 7;
  EXPECT_THAT(error_of(config, "vllm"), HasSubstr("config: vision_config is 7, expected an object"));
  config = tiny_qwen2_5_vl();
  config["text_config"]["vocab_size"] = -1;
  EXPECT_THAT(error_of(config, "vllm"), HasSubstr("vocab_size is -1"));
  config = tiny_qwen2_5_vl();
  config["tie_word_embeddings"] = true;
  config["text_config"]["tie_word_embeddings"] = false;
  EXPECT_THAT(error_of(config, "vllm"), HasSubstr("tie_word_embeddings is true, but in text_config it is false"));
  config["text_config"] = "none";
  EXPECT_THAT(error_of(config, "vllm"), HasSubstr("config: text_config is \"none\", expected an object"));
}

TEST(VisionFamiliesTest, SettingsOfATowerAreChecked) {
  EXPECT_THAT(error_of(tiny_qwen2_5_vl(), "megatron:pp=2,vision_layers=2-2"),
              HasSubstr("vision_layers: layers add up to 4, but the model has 3"));
  EXPECT_THAT(error_of(tiny_qwen2_5_vl(), "megatron:pp=2,vision_layers=3"),
              HasSubstr("vision_layers names 1 stages, but pp = 2"));
  EXPECT_THAT(error_of(tiny_llama(), "megatron:pp=2,vision_layers=2-0"),
              HasSubstr("vision_layers is given, but llama has no vision tower"));
  EXPECT_THAT(error_of(tiny_llama(), "vllm:mm_encoder_tp_mode=data"),
              HasSubstr("mm_encoder_tp_mode is given, but llama has no vision tower"));
  // The decoder's 4 heads divide, the tower's 2 do not.
  EXPECT_THAT(error_of(tiny_qwen2_5_vl(), "vllm:tp=4"), HasSubstr("do not divide over 4 ranks"));
}

}  // namespace
}  // namespace reshard
