// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// Whatever is given as config and layout: a layout or a typed error with a message, never anything else.

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "memory.h"
#include "src/model/eplb.h"
#include "src/model/model.h"

namespace reshard {
namespace {

using Json = nlohmann::json;

const std::vector<std::string>& models() {
  static const std::vector<std::string> models = {"Meta-Llama-3.1-8B", "Qwen3-0.6B",  "Qwen3-30B-A3B",
                                                  "Mixtral-8x7B-v0.1", "DeepSeek-V3", "Kimi-K2-Instruct"};
  return models;
}

const std::vector<std::string>& texts() {
  static const std::vector<std::string> texts = {"fsdp:shard=8,replicate=2",
                                                 "megatron:tp=2,pp=2,dp=2,ep=4,etp=1",
                                                 "megatron:tp=4,pp=3,layers=20-20-21,experts=gmm",
                                                 "vllm:tp=2,dp=4,ep=8,pp=1,replicas=1,redundant=16",
                                                 "vllm:tp=4,pp=2,replicas=2",
                                                 "vllm:ep=8,placement=round_robin",
                                                 "vllm:ep=2,eplb=/no/such/file",
                                                 "fsdp:shard=8,units=aligned,experts=each",
                                                 "megatron:tp=4,lora=8,lora_targets=gate_proj-up_proj",
                                                 "sglang:tp=8,attention_dp=2,ep=4,redundant=8,dense=whole",
                                                 "checkpoint:split=3",
                                                 "checkpoint"};
  return texts;
}

void expect_layout_or_error(const std::string& config, const std::string& text) {
  const Result<ModelLayout> layout = make_model_layout(config, text);
  if (layout.ok()) {
    RC_ASSERT(layout->num_ranks() >= 1);
    RC_ASSERT(!layout->tensors().empty());
    return;
  }
  const reshard_status_t code = layout.status().code();
  RC_ASSERT((code == RESHARD_ERR_INVALID_ARGUMENT || code == RESHARD_ERR_NOT_SUPPORTED || code == RESHARD_ERR_IO));
  RC_ASSERT(layout.status().message().size() > 10U);
}

/// `text` with a few bytes replaced, removed or inserted.
std::string mutated(std::string text) {
  const int num_changes = *rc::gen::inRange(1, 5);
  for (int i = 0; i < num_changes; ++i) {
    const auto at = *rc::gen::inRange<std::size_t>(0, text.size() + 1);
    const std::string byte(
        1, *rc::gen::oneOf(rc::gen::arbitrary<char>(), rc::gen::elementOf(std::string("0189,:={}[]\"-.e"))));
    text.replace(at, *rc::gen::inRange<std::size_t>(0, 2), *rc::gen::element(std::string(), byte));
  }
  return text;
}

Json random_value() {
  static const std::vector<Json> values = {nullptr,
                                           true,
                                           false,
                                           -1,
                                           0,
                                           1,
                                           2,
                                           3,
                                           7,
                                           64,
                                           4096,
                                           16384,
                                           1e300,
                                           "",
                                           "x",
                                           1e19,
                                           1.5,
                                           "8",
                                           Json::array({1}),
                                           Json::object(),
                                           -9223372036854775807LL,
                                           18446744073709551615ULL};
  return *rc::gen::elementOf(values);
}

TEST(FuzzTest, RandomBytesGiveAnError) {
  EXPECT_TRUE(rc::check([] {
    const auto config = *rc::gen::string<std::string>();
    const auto text = *rc::gen::string<std::string>();
    expect_layout_or_error(config, texts()[0]);
    expect_layout_or_error(config, text);
    expect_layout_or_error(tiny_llama().dump(), text);
    RC_ASSERT(!layout_text_num_ranks(text).ok());
    RC_ASSERT(!parse_expert_map(config, {4, {true, true}, 2}).ok());
  }));
}

TEST(FuzzTest, DamagedTextsGiveALayoutOrAnError) {
  EXPECT_TRUE(rc::check([] {
    const std::string config = published_config(*rc::gen::elementOf(models()));
    expect_layout_or_error(mutated(config), *rc::gen::elementOf(texts()));
    expect_layout_or_error(tiny_deepseek().dump(), mutated(*rc::gen::elementOf(texts())));
  }));
}

TEST(FuzzTest, ChangedValuesGiveALayoutOrAnError) {
  EXPECT_TRUE(rc::check([] {
    Json config = Json::parse(published_config(*rc::gen::elementOf(models())));
    std::vector<std::string> keys;
    for (const auto& [key, value] : config.items()) keys.push_back(key);
    const int num_changes = *rc::gen::inRange(1, 4);
    for (int i = 0; i < num_changes; ++i) config[*rc::gen::elementOf(keys)] = random_value();
    expect_layout_or_error(config.dump(), *rc::gen::elementOf(texts()));
  }));
}

TEST(FuzzTest, ChangedValuesOfPartsGiveALayoutOrAnError) {
  const Json small = Json::parse(R"({"model_type": "qwen3_vl", "tie_word_embeddings": false, "text_config": {
    "num_hidden_layers": 4, "hidden_size": 8, "vocab_size": 10, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 2, "intermediate_size": 8, "num_experts": 4, "moe_intermediate_size": 4, "tie_word_embeddings": false,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 2, "linear_value_head_dim": 2,
    "linear_conv_kernel_dim": 3, "shared_expert_intermediate_size": 4},
    "vision_config": {"depth": 3, "hidden_size": 4, "intermediate_size": 4, "num_heads": 2, "out_hidden_size": 8,
    "patch_size": 1, "in_channels": 3, "spatial_merge_size": 1, "temporal_patch_size": 1, "num_position_embeddings": 5,
    "deepstack_visual_indexes": [0, 2]}})");
  const std::vector<std::string> some_texts = {"fsdp:shard=3", "megatron:tp=2,pp=2,vision_layers=1-2", "vllm:tp=2,pp=2",
                                               "vllm:mm_encoder_tp_mode=data", "checkpoint"};
  EXPECT_TRUE(rc::check([&] {
    Json config = small;
    config["model_type"] =
        *rc::gen::element<std::string>("qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe");
    for (int i = *rc::gen::inRange(0, 3); i > 0; --i) {
      const auto part = *rc::gen::element<std::string>("", "text_config", "vision_config");
      Json& object = part.empty() || !config[part].is_object() ? config : config[part];
      std::vector<std::string> keys;
      for (const auto& [key, value] : object.items()) keys.push_back(key);
      object[*rc::gen::elementOf(keys)] = random_value();
    }
    expect_layout_or_error(config.dump(), *rc::gen::elementOf(some_texts));
  }));
}

TEST(FuzzTest, DamagedExpertMapsGiveTablesOrAnError) {
  const std::vector<std::string> maps = {
      R"({"physical_to_logical": [[0, 1, 3, 2, 3, 0], [0, 1, 2, 3]]})",
      R"({"layer_list": [{"layer_id": 0, "device_list": [{"device_id": 0, "device_expert": [0, 1]},
                                                         {"device_id": 1, "device_expert": [2, 3]}]}]})"};
  EXPECT_TRUE(rc::check([&] {
    const auto tables = parse_expert_map(mutated(*rc::gen::elementOf(maps)), {4, {true, true}, 2});
    if (!tables.ok()) RC_ASSERT(tables.status().message().find("expert map") != std::string::npos);
  }));
}

TEST(FuzzTest, DeepNestingIsAnError) {
  EXPECT_FALSE(make_model_layout(std::string(200'000, '['), "fsdp").ok());
  EXPECT_FALSE(
      make_model_layout(R"({"model_type": )" + std::string(100'000, '[') + std::string(100'000, ']') + "}", "fsdp")
          .ok());
}

}  // namespace
}  // namespace reshard
