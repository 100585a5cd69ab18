// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// Layers for multi-token prediction, against closed forms: their names in files, trainers and servers, the stage that
// has them and the embedding beside them, and what files alone have.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "holders.h"
#include "memory.h"
#include "src/model/model.h"
#include "tests/unit/temporary_file.h"

namespace reshard {
namespace {

using Json = nlohmann::json;
using Names = std::set<std::string>;
using testing::AllOf;
using testing::HasSubstr;

/// 3 layers, hidden size 2, and one layer or more for multi-token prediction behind them.
Json with_mtp(int num_layers = 1) {
  return changed(tiny_deepseek(), {{"num_nextn_predict_layers", num_layers}});
}

Json tiny_qwen3_next() {
  return {{"model_type", "qwen3_next"},
          {"num_hidden_layers", 4},
          {"hidden_size", 2},
          {"vocab_size", 10},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 1},
          {"num_experts", 4},
          {"moe_intermediate_size", 4},
          {"shared_expert_intermediate_size", 4},
          {"linear_num_key_heads", 2},
          {"linear_num_value_heads", 4},
          {"linear_key_head_dim", 1},
          {"linear_value_head_dim", 1},
          {"linear_conv_kernel_dim", 2}};
}

bool has(const Memory& memory, const std::string& buffer) {
  return memory.buffers.count(buffer) > 0;
}

/// Element i of `buffer` is element i, whatever its dims are, of `tensor`.
void expect_whole(const Memory& memory, const std::string& buffer, const Index& shape, const std::string& tensor) {
  expect_buffer(memory, buffer, shape, [&](const Index& i) { return Element{tensor, i}; });
}

Names names_of(const ModelLayout& layout) {
  Names names;
  for (const Tensor& tensor : layout.tensors()) names.insert(tensor.name);
  return names;
}

TEST(SemanticsTest, Row27_FilesHaveLayersForMultiTokenPredictionBehindTheDecoder) {
  const Names without = names_of(layout_of(with_mtp(2), "checkpoint"));
  const ModelLayout layout = layout_of(with_mtp(2), "checkpoint:mtp=2");
  Names more;
  for (const std::string& name : names_of(layout)) {
    if (without.count(name) == 0) more.insert(name);
  }
  Names expected;
  for (const char* number : {"3", "4"}) {
    const std::string layer = std::string("model.layers.") + number + ".";
    for (const std::string& name : without) {  // beside a decoder layer with experts...
      if (name.starts_with("model.layers.2.")) expected.insert(layer + name.substr(layer.size()));
    }
    for (const char* name : {"enorm", "hnorm", "eh_proj", "shared_head.norm", "embed_tokens", "shared_head.head"}) {
      expected.insert(layer + name + ".weight");
    }
  }
  EXPECT_EQ(more, expected);
  expect_whole(memory_of(layout, 0), "model.layers.4.eh_proj.weight", {2, 4}, "model.layers.4.eh_proj.weight");
  expect_whole(memory_of(layout, 0), "model.layers.3.embed_tokens.weight", {10, 2},
               "model.layers.3.embed_tokens.weight");
  // Groups: 0 the embedding, 1 to 3 the layers, 4 norm and output layer.
  std::map<std::string, std::int64_t> groups;
  for (const Tensor& tensor : layout.tensors()) groups[tensor.name] = tensor.group;
  EXPECT_EQ(groups["lm_head.weight"], 4);
  EXPECT_EQ(groups["model.layers.3.embed_tokens.weight"], 5);
  EXPECT_EQ(groups["model.layers.4.shared_head.head.weight"], 6);
  EXPECT_EQ(names_of(layout_of(with_mtp(2), "checkpoint:mtp=1")).count("model.layers.4.enorm.weight"), 0U);
}

TEST(SemanticsTest, Row27_TrainersHaveThemOnTheLastStageWithTheEmbedding) {
  const Holders trainers(with_mtp(), "megatron:tp=2,pp=2,mtp=1");
  const std::string layer = "mtp.layers.0.", file = "model.layers.3.";
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const Memory &first = trainers.memory(rank), &last = trainers.memory(2 + rank);
    expect_whole(last, layer + "enorm.weight", {2}, file + "enorm.weight");
    expect_whole(last, layer + "hnorm.weight", {2}, file + "hnorm.weight");
    expect_whole(last, layer + "final_layernorm.weight", {2}, file + "shared_head.norm.weight");
    // Column-parallel: each rank has one of the two rows.
    expect_buffer(last, layer + "eh_proj.weight", {1, 4}, [&](const Index& i) {
      return Element{file + "eh_proj.weight", {rank, i[1]}};
    });
    // The decoder layer in it: 4 heads of 3 rows, 2 heads for each rank.
    expect_buffer(last, layer + "transformer_layer.self_attention.linear_q_up_proj.weight", {6, 3},
                  [&](const Index& i) {
                    return Element{file + "self_attn.q_b_proj.weight", {rank * 6 + i[0], i[1]}};
                  });
    expect_buffer(last, layer + "transformer_layer.mlp.experts.linear_fc1.weight7", {8, 2}, [&](const Index& i) {
      return Element{file + (i[0] < 4 ? "mlp.experts.gate_proj.weight" : "mlp.experts.up_proj.weight"),
                     {7, i[0] % 4, i[1]}};
    });
    for (const Memory* memory : {&first, &last}) {  // 256 rows with padding
      EXPECT_EQ(memory->buffers.at("embedding.word_embeddings.weight")[2],
                (rank == 0 ? Element{"model.embed_tokens.weight", {1, 0}} : kZero));
    }
    EXPECT_FALSE(has(first, layer + "enorm.weight"));
    EXPECT_TRUE(has(last, "decoder.final_layernorm.weight"));
  }
  EXPECT_FALSE(has(memory_of(layout_of(with_mtp(), "megatron:pp=2"), 1), "embedding.word_embeddings.weight"));
}

TEST(SemanticsTest, Row27_TheirStageMayBeOneOfTheirOwn) {
  // The decoder's last norm is where its last layer is, the output layer always on the last stage.
  const Holders trainers(with_mtp(2), "megatron:pp=4,layers=2-1-0-0,mtp=2,mtp_layers=0-0-2-0");
  const auto buffers = [&](std::int64_t rank) { return trainers.memory(rank).buffers; };
  EXPECT_EQ(buffers(1).count("decoder.layers.2.input_layernorm.weight"), 1U);
  EXPECT_EQ(buffers(1).count("decoder.final_layernorm.weight"), 1U);
  for (const auto& [name, elements] : buffers(2)) {
    EXPECT_TRUE(name.starts_with("mtp.layers.") || name == "embedding.word_embeddings.weight") << name;
  }
  EXPECT_EQ(buffers(2).count("mtp.layers.1.enorm.weight"), 1U);
  EXPECT_EQ(buffers(2).count("embedding.word_embeddings.weight"), 1U);
  EXPECT_EQ(buffers(3).size(), 1U);
  EXPECT_EQ(buffers(3).count("output_layer.weight"), 1U);
  EXPECT_EQ(trainers.of("model.layers.4.enorm.weight", {0}), Ranks{2});
  EXPECT_EQ(trainers.of("model.norm.weight", {0}), Ranks{1});
  // On the only stage nothing is there twice.
  const Memory one = memory_of(layout_of(with_mtp(), "megatron:mtp=1"), 0);
  EXPECT_EQ(one.defect, "");
  EXPECT_TRUE(has(one, "mtp.layers.0.eh_proj.weight"));
}

TEST(SemanticsTest, Row27_TheyAreInTheLastChunkOfTheirStage) {
  const Json config = changed(with_mtp(), {{"num_hidden_layers", 4}});
  const Memory memory = memory_of(layout_of(config, "megatron:pp=2,vpp=2,names=chunk,mtp=1"), 1);
  EXPECT_TRUE(has(memory, "0.decoder.layers.0.input_layernorm.weight"));
  expect_whole(memory, "1.mtp.layers.0.hnorm.weight", {2}, "model.layers.4.hnorm.weight");
}

TEST(SemanticsTest, Row27_ServersHaveADraftModelOnTheLastStage) {
  const Holders one(with_mtp(), "vllm:tp=2,mtp=1");
  const std::string draft = "draft.model.layers.3.", file = "model.layers.3.";
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const Memory& memory = one.memory(rank);
    // No more than a linear layer: whole on every rank.
    expect_whole(memory, draft + "eh_proj.weight", {2, 4}, file + "eh_proj.weight");
    expect_whole(memory, draft + "shared_head.norm.weight", {2}, file + "shared_head.norm.weight");
    expect_buffer(memory, draft + "mtp_block.mlp.experts.routed_experts.w13_weight", {8, 4, 2}, [&](const Index& i) {
      const char* half = i[1] < 2 ? "gate" : "up";
      return Element{file + "mlp.experts." + half + "_proj.weight", {i[0], rank * 2 + i[1] % 2, i[2]}};
    });
    // Embedding and output layer are the target's.
    for (const auto& [name, elements] : memory.buffers) {
      EXPECT_EQ(name.starts_with("draft."), name.starts_with(draft)) << name;
    }
    EXPECT_FALSE(has(memory, draft + "shared_head.head.weight"));
  }
  // Of a server of two stages the draft has an embedding of its own.
  const Holders two(with_mtp(), "vllm:pp=2,mtp=1");
  EXPECT_EQ(two.of("model.layers.3.hnorm.weight", {1}), Ranks{1});
  EXPECT_EQ(two.of("model.embed_tokens.weight", {9, 1}), (Ranks{0, 1}));
  EXPECT_EQ(two.memory(1).buffers.at("draft.model.embed_tokens.weight")[19],
            (Element{"model.embed_tokens.weight", {9, 1}}));
  EXPECT_FALSE(has(two.memory(1), "model.embed_tokens.weight"));
}

TEST(SemanticsTest, Row27_QwenNamesThemApartAndServersCutTheProjection) {
  const Json config = tiny_qwen3_next();
  const Names names = names_of(layout_of(config, "checkpoint:mtp=1"));
  for (const char* name : {"mtp.fc.weight", "mtp.pre_fc_norm_embedding.weight", "mtp.pre_fc_norm_hidden.weight",
                           "mtp.norm.weight", "mtp.layers.0.self_attn.q_proj.weight",
                           "mtp.layers.0.mlp.shared_expert_gate.weight", "mtp.layers.0.mlp.experts.down_proj.weight"}) {
    EXPECT_EQ(names.count(name), 1U) << name;
  }
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    const Memory server = memory_of(layout_of(config, "vllm:tp=2,mtp=1"), static_cast<std::int32_t>(rank));
    EXPECT_EQ(server.defect, "");
    expect_buffer(server, "draft.model.fc.weight", {1, 4}, [&](const Index& i) {
      return Element{"mtp.fc.weight", {rank, i[1]}};
    });
    expect_whole(server, "draft.model.norm.weight", {2}, "mtp.norm.weight");
    expect_buffer(server, "draft.model.layers.0.self_attn.o_proj.weight", {2, 2}, [&](const Index& i) {
      return Element{"mtp.layers.0.self_attn.o_proj.weight", {i[0], rank * 2 + i[1]}};
    });
    ModelLayoutOptions options;
    options.exclude = {"*.linear_attn.norm.weight"};
    const Result<ModelLayout> trainers = make_model_layout(config.dump(), "megatron:tp=2,mtp=1", options);
    ASSERT_TRUE(trainers.ok()) << trainers.status().message();
    const Memory trainer = memory_of(*trainers, static_cast<std::int32_t>(rank));
    expect_buffer(trainer, "mtp.layers.0.eh_proj.weight", {1, 4}, [&](const Index& i) {
      return Element{"mtp.fc.weight", {rank, i[1]}};
    });
    expect_whole(trainer, "mtp.layers.0.enorm.weight", {2}, "mtp.pre_fc_norm_embedding.weight");
    expect_whole(trainer, "mtp.layers.0.hnorm.weight", {2}, "mtp.pre_fc_norm_hidden.weight");
    expect_whole(trainer, "mtp.layers.0.final_layernorm.weight", {2}, "mtp.norm.weight");
  }
}

TEST(SemanticsTest, Row27_WhatQwenHasOutsideThemIsOnTheirStage) {
  const Holders servers(tiny_qwen3_next(), "vllm:pp=2,mtp=1");
  ModelLayoutOptions options;
  options.exclude = {"*.linear_attn.norm.weight"};
  const Result<ModelLayout> trainers =
      make_model_layout(tiny_qwen3_next().dump(), "megatron:pp=3,layers=2-2-0,mtp=1,mtp_layers=0-1-0", options);
  ASSERT_TRUE(trainers.ok()) << trainers.status().message();
  for (const char* name : {"mtp.fc.weight", "mtp.norm.weight"}) {
    EXPECT_EQ(servers.of(name, name[4] == 'f' ? Index{0, 0} : Index{0}), Ranks{1}) << name;
  }
  for (const char* name : {"eh_proj", "enorm", "hnorm", "final_layernorm"}) {
    const std::string buffer = std::string("mtp.layers.0.") + name + ".weight";
    for (const std::int32_t rank : {0, 1, 2}) EXPECT_EQ(has(memory_of(*trainers, rank), buffer), rank == 1) << name;
  }
}

TEST(SemanticsTest, Row27_Qwen3_5HasThemBehindATowerToo) {
  Json text = changed(tiny_qwen3_next(), {{"model_type", "qwen3_5_text"}, {"intermediate_size", 8}});
  text["mtp_num_hidden_layers"] = 1;
  const Memory alone = memory_of(layout_of(text, "vllm:tp=2,mtp=1"), 1);
  expect_buffer(alone, "draft.model.layers.0.mlp.gate_up_proj.weight", {8, 2}, [&](const Index& i) {
    return Element{std::string("mtp.layers.0.mlp.") + (i[0] < 4 ? "gate" : "up") + "_proj.weight",
                   {4 + i[0] % 4, i[1]}};
  });
  const Json vision = {
      {"depth", 1},           {"hidden_size", 4}, {"intermediate_size", 4},  {"num_heads", 2},
      {"out_hidden_size", 2}, {"patch_size", 1},  {"spatial_merge_size", 1}, {"num_position_embeddings", 5}};
  const Json both = {{"model_type", "qwen3_5"}, {"text_config", text}, {"vision_config", vision}};
  const Memory beside = memory_of(layout_of(both, "vllm:tp=2,mtp=1"), 1);
  EXPECT_EQ(beside.buffers.at("draft.model.fc.weight"), alone.buffers.at("draft.model.fc.weight"));
  EXPECT_THAT(error_of(both, "megatron:mtp=1"), AllOf(HasSubstr("mtp is 1"), HasSubstr("tower")));
}

TEST(MtpTest, RowsOfTheirExpertsComeBehindTheDecoders) {
  const TemporaryFile file(".json");
  write_text_file(file.path(),
                  R"({"physical_to_logical": [[0, 1, 2, 3, 0, 1], [0, 1, 2, 3, 2, 3], [3, 2, 1, 0, 3, 2]]})");
  const std::int64_t rows[3][6] = {{0, 1, 2, 3, 0, 1}, {0, 1, 2, 3, 2, 3}, {3, 2, 1, 0, 3, 2}};
  const Json config = changed(with_mtp(), {{"n_routed_experts", 4}, {"moe_intermediate_size", 2}});
  const Holders servers(config, "vllm:tp=2,ep=2,mtp=1,eplb=" + file.path());
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    for (std::int64_t row = 0; row < 3; ++row) {  // of layers 1 and 2, for 0 is dense, and of 3, the draft's
      const std::string module = row < 2 ? in_layer(row + 1, "mlp.") : "draft.model.layers.3.mtp_block.mlp.";
      expect_buffer(servers.memory(rank), module + "experts.routed_experts.w2_weight", {3, 2, 2}, [&](const Index& i) {
        return Element{in_layer(row + 1, "mlp.experts.down_proj.weight"), {rows[row][rank * 3 + i[0]], i[1], i[2]}};
      });
    }
  }
}

TEST(MtpTest, TheirNumberIsOneThatTheModelHas) {
  EXPECT_THAT(error_of(with_mtp(), "vllm:mtp=2"),
              AllOf(HasSubstr("\"vllm:mtp=2\""), HasSubstr("mtp is 2"), HasSubstr("expected 0 to 1")));
  EXPECT_THAT(error_of(with_mtp(0), "vllm:mtp=1"), AllOf(HasSubstr("mtp is 1"), HasSubstr("leave mtp out")));
  EXPECT_THAT(error_of(tiny_llama(), "checkpoint:mtp=1"), AllOf(HasSubstr("llama"), HasSubstr("leave mtp out")));
  EXPECT_THAT(error_of(with_mtp(), "megatron:mtp=-1"), HasSubstr("mtp is \"-1\""));
  EXPECT_THAT(error_of(with_mtp(), "fsdp:shard=2,mtp=1"), AllOf(HasSubstr("mtp is 1"), HasSubstr("transformers")));
  EXPECT_THAT(error_of(with_mtp(), "vllm:mtp=1,lora=2"), AllOf(HasSubstr("mtp is 1"), HasSubstr("adapters")));
  EXPECT_THAT(error_of(changed(with_mtp(), {{"num_nextn_predict_layers", "one"}}), "vllm:mtp=1"),
              HasSubstr("num_nextn_predict_layers is \"one\""));
  const Json kimi = changed(with_mtp(), {{"model_type", "kimi_k2"}});
  EXPECT_THAT(error_of(kimi, "vllm:mtp=1"), AllOf(HasSubstr("mtp is 1"), HasSubstr("no draft model of kimi_k2")));
  EXPECT_EQ(names_of(layout_of(kimi, "megatron:mtp=1")).count("model.layers.3.enorm.weight"), 1U);
  EXPECT_THAT(error_of(changed(tiny_qwen3_next(), {{"num_nextn_predict_layers", 2}}), "megatron:mtp=2"),
              AllOf(HasSubstr("mtp is 2"), HasSubstr("give mtp=1")));
  EXPECT_EQ(names_of(layout_of(with_mtp(), "fsdp:shard=2,mtp=0")),
            names_of(layout_of(tiny_deepseek(), "fsdp:shard=2")));
}

TEST(MtpTest, TheirStagesAreOneBehindTheDecoder) {
  EXPECT_THAT(error_of(with_mtp(2), "megatron:pp=2,mtp=2,mtp_layers=1-1"),
              AllOf(HasSubstr("mtp_layers is 1-1"), HasSubstr("mtp = 2 for one stage")));
  EXPECT_THAT(error_of(with_mtp(), "megatron:pp=2,mtp_layers=0-1"), HasSubstr("mtp_layers is 0-1"));
  EXPECT_THAT(error_of(with_mtp(), "megatron:pp=2,mtp=1,mtp_layers=0-0"), HasSubstr("mtp_layers is 0-0"));
  EXPECT_THAT(error_of(with_mtp(), "megatron:pp=2,mtp=1,mtp_layers=1-0"),
              AllOf(HasSubstr("stage 0"), HasSubstr("stage 1"), HasSubstr("behind")));
  EXPECT_THAT(error_of(with_mtp(), "megatron:pp=2,mtp=1,mtp_layers=1"), HasSubstr("pp = 2"));
}

TEST(MtpTest, ProjectionsAndCopiesAreNotQuantised) {
  const ModelLayout layout = layout_of(with_mtp(), "checkpoint:mtp=1,quant=channel");
  Names kept;
  for (const Tensor& tensor : layout.tensors()) {
    const bool is_matrix = tensor.shape.size() > 1 && !tensor.name.ends_with("_scale");
    if (tensor.name.starts_with("model.layers.3.") && is_matrix && tensor.dtype != DType::kF8E4M3) {
      kept.insert(tensor.name.substr(tensor.name.find("3.") + 2));
    }
  }
  EXPECT_EQ(kept, (Names{"embed_tokens.weight", "eh_proj.weight", "mlp.gate.weight", "shared_head.head.weight"}));
}

}  // namespace
}  // namespace reshard
