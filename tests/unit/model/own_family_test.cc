// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// A family that the library does not know, written as a user would: a function, and a row with its name.

#include <gtest/gtest.h>

#include "memory.h"
#include "src/model/families.h"
#include "src/model/model.h"
#include "src/model/modules.h"

namespace reshard {
namespace {

/// Attention with biases on q, k and v beside an MLP that is not gated, and a scale for each head that no module knows.
void parrot(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.has_qkv_bias = true;
  Mlp mlp;
  mlp.up = "fc_in";
  mlp.down = "fc_out";
  mlp.width = writer->config().count("intermediate_size|ffn_dim", ConfigReader::kWidth);
  mlp.is_gated = false;
  mlp.has_bias = true;
  writer->embedding("parrot.tokens");
  writer->layers("parrot.blocks", [&](std::int64_t) {
    writer->norm("attention_norm", "norm", /*has_bias=*/true);
    add_attention(attention, writer);
    writer->add("", "self_attn.head_scale", "", {{Axis::kHead, attention.num_heads}});
    add_mlp(mlp, writer);
  });
  writer->output("parrot.head");
}

Model parrot_model() {
  nlohmann::json config = tiny_llama();
  config["model_type"] = "parrot";
  config["ffn_dim"] = 8;
  const Family families[] = {{"parrot", parrot}};
  Result<Model> model = read_model(config.dump(), {}, families);
  EXPECT_TRUE(model.ok()) << model.status().message();
  return model.ok() ? model.take() : Model();
}

Memory memory_of_parrot(const std::string& text, std::int32_t rank) {
  const Result<ModelLayout> layout = make_model_layout(parrot_model(), text);
  EXPECT_TRUE(layout.ok()) << layout.status().message();
  return layout.ok() ? memory_of(*layout, rank) : Memory();
}

Element row(const std::string& name, std::int64_t index) {
  return {"parrot.blocks.1." + name, {index}};
}

TEST(OwnFamilyTest, ARowIsEnoughForEveryScheme) {
  const Memory vllm = memory_of_parrot("vllm:tp=2", 1), megatron = memory_of_parrot("megatron:tp=2", 1);
  EXPECT_EQ(vllm.defect + megatron.defect, "");
  const auto scale = [](const Index& i) { return row("self_attn.head_scale", 4 + i[0]); };
  expect_buffer(vllm, "parrot.blocks.1.self_attn.head_scale", {4}, scale);
  expect_buffer(megatron, "decoder.layers.1.self_attn.head_scale", {4}, scale);
  // Not gated: nothing to fuse; vLLM keeps the name, Megatron has its own.
  const auto up = [](const Index& i) { return row("mlp.fc_in.bias", 4 + i[0]); };
  expect_buffer(vllm, "parrot.blocks.1.mlp.fc_in.bias", {4}, up);
  expect_buffer(megatron, "decoder.layers.1.mlp.linear_fc1.bias", {4}, up);
  // The bias behind a row-parallel weight is whole on every rank.
  expect_buffer(vllm, "parrot.blocks.1.mlp.fc_out.bias", {2},
                [](const Index& i) { return row("mlp.fc_out.bias", i[0]); });
  EXPECT_EQ(memory_of_parrot("fsdp:shard=2", 1).buffers.at("parrot.blocks.0.norm.bias").size(), 1U);
  EXPECT_EQ(memory_of_parrot("checkpoint", 0).buffers.count("parrot.head.weight"), 1U);
}

/// Row 16: biases move as their weights' rows do. 8 query heads in 4 groups, head_dim 1.
TEST(SemanticsTest, Row16_BiasesOfQkvAreFusedAsTheirWeights) {
  const auto names = [](const Memory& memory, const std::string& buffer) {
    std::string text;
    for (const Element& e : memory.buffers.at(buffer)) {
      text += e.tensor.substr(e.tensor.find("self_attn.") + 10, 1) + std::to_string(e.index[0]) + " ";
    }
    return text;
  };
  EXPECT_EQ(names(memory_of_parrot("megatron:tp=2", 0), "decoder.layers.1.self_attention.linear_qkv.bias"),
            "q0 q1 k0 v0 q2 q3 k1 v1 ");
  EXPECT_EQ(names(memory_of_parrot("vllm:tp=4", 1), "parrot.blocks.1.self_attn.qkv_proj.bias"), "q2 q3 k1 v1 ");
  EXPECT_EQ(names(memory_of_parrot("vllm:tp=8", 5), "parrot.blocks.1.self_attn.qkv_proj.bias"), "q5 k2 v2 ");
}

TEST(OwnFamilyTest, FaultsOfItsConfigAreNamed) {
  const Family families[] = {{"parrot", parrot}};
  nlohmann::json config = tiny_llama();
  config.update({{"model_type", "parrot"}, {"intermediate_size", nullptr}});
  const Result<Model> missing = read_model(config.dump(), {}, families);
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.status().message().find("intermediate_size is missing, nor is there ffn_dim"), std::string::npos)
      << missing.status().message();
}

}  // namespace
}  // namespace reshard
