// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// From a layout's text to raw memory, against closed forms of what other systems do with a parameter: one test for each
// capability, by its number in the list of src/model/README.md.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "memory.h"
#include "src/model/families.h"
#include "src/model/model.h"
#include "src/model/modules.h"

namespace reshard {
namespace {

using Json = nlohmann::json;
using Rows = std::vector<std::string>;
using testing::HasSubstr;

Rows rows_on(const ModelLayout& layout, std::int32_t rank, const std::string& buffer) {
  const Memory memory = memory_of(layout, rank);
  EXPECT_EQ(memory.defect, "") << "rank " << rank;
  return rows_of(memory, buffer, 2);
}

// ---- FSDP

TEST(SemanticsTest, Row05_FsdpCutsTheFirstDimThatDivides) {
  // [10, 16] over 8 ranks: 10 rows do not divide, 16 columns do: 2 of them each. [16] divides. [6, 10] divides nowhere.
  const Json config = changed(tiny_llama(), {{"hidden_size", 16}, {"intermediate_size", 10}});
  const ModelLayout layout = layout_of(config, "fsdp:shard=8,dim=divisible");
  const std::string embedding = "model.embed_tokens.weight", norm = "model.norm.weight";
  for (std::int32_t rank = 0; rank < 8; ++rank) {
    const Memory memory = memory_of(layout, rank);
    expect_buffer(memory, embedding, {10, 2}, [&](const Index& i) {
      return Element{embedding, {i[0], 2 * rank + i[1]}};
    });
    expect_buffer(memory, norm, {2}, [&](const Index& i) { return Element{norm, {2 * rank + i[0]}}; });
  }
  const std::string k = in_layer(0, "self_attn.k_proj.weight");  // [4, 10]: dim 0 by torch.chunk, 1 row on four ranks
  const ModelLayout narrow = layout_of(changed(config, {{"hidden_size", 10}}), "fsdp:shard=8,dim=divisible");
  expect_buffer(memory_of(narrow, 3), k, {1, 10}, [&](const Index& i) { return Element{k, {3, i[1]}}; });
  EXPECT_EQ(memory_of(narrow, 4).buffers.at(k).size(), 0U);
}

TEST(SemanticsTest, Row09_FsdpShardsTensorParallelShards) {
  // 8 rows on a mesh (shard 2, tp 2): rank = shard * 2 + tp holds row block tp * 2 + shard.
  const ModelLayout layout = layout_of(tiny_llama(), "fsdp:shard=2,tp=2");
  const std::string gate = in_layer(0, "mlp.gate_proj.weight"), down = in_layer(0, "mlp.down_proj.weight"),
                    norm = "model.norm.weight";
  for (std::int64_t rank = 0; rank < 4; ++rank) {
    const std::int64_t shard = rank / 2, tp = rank % 2;
    const Memory memory = memory_of(layout, static_cast<std::int32_t>(rank));
    EXPECT_EQ(memory.defect, "");
    expect_buffer(memory, gate, {2, 2}, [&](const Index& i) {
      return Element{gate, {(tp * 2 + shard) * 2 + i[0], i[1]}};
    });
    // Row-parallel: tp cuts columns, FSDP rows.
    expect_buffer(memory, down, {1, 4}, [&](const Index& i) { return Element{down, {shard, tp * 4 + i[1]}}; });
    expect_buffer(memory, norm, {1}, [&](const Index&) { return Element{norm, {shard}}; });
  }
}

TEST(SemanticsTest, Row09_TensorParallelCutsFsdpShardsTheOtherWayRound) {
  const ModelLayout layout = layout_of(tiny_llama(), "fsdp:shard=2,tp=2,outer=shard,replicate=2");
  ASSERT_EQ(layout.num_ranks(), 8);
  const std::string gate = in_layer(0, "mlp.gate_proj.weight");
  for (std::int64_t rank = 0; rank < 8; ++rank) {
    expect_buffer(memory_of(layout, static_cast<std::int32_t>(rank)), gate, {2, 2}, [&](const Index& i) {
      return Element{gate, {rank % 4 * 2 + i[0], i[1]}};
    });
  }
}

TEST(SemanticsTest, Row09_ShardsOfUnevenTensorParallelShardsAreChunksOfChunks) {
  // 7 rows: tp holds 4 and 3; of 3 over 2 shards 2 and 1.
  const Json config = changed(tiny_llama(), {{"intermediate_size", 7}});
  const ModelLayout layout = layout_of(config, "fsdp:shard=2,tp=2");
  const std::string name = in_layer(1, "mlp.up_proj.weight");
  EXPECT_EQ(rows_on(layout, 0, name), (Rows{"u0", "u1"}));
  EXPECT_EQ(rows_on(layout, 1, name), (Rows{"u4", "u5"}));
  EXPECT_EQ(rows_on(layout, 2, name), (Rows{"u2", "u3"}));
  EXPECT_EQ(rows_on(layout, 3, name), (Rows{"u6"}));
  EXPECT_THAT(error_of(config, "fsdp:shard=2,outer=tp"), HasSubstr("outer needs tp"));
  EXPECT_THAT(error_of(config, "fsdp:shard=2,dim=1"), HasSubstr("dim is \"1\", expected one of 0, divisible"));
}

/// A model whose outer unit is one matrix of 3 x 4, for the order of llama's parameters.
void one_matrix(ModelWriter* writer) {
  writer->embedding();
  writer->layers("model.layers", [&](std::int64_t) { writer->norm("attention_norm", "input_layernorm"); });
}

TEST(SemanticsTest, Row07_ChunksOfFlatUnitsBeginAndEndInsideRows) {
  // 12 elements on 2 ranks, 6 each: row 0 and [0, 2) of row 1; [2, 4) of row 1 and row 2.
  const Family families[] = {{"llama", one_matrix}};
  const Json config = changed(tiny_llama(), {{"vocab_size", 3}, {"hidden_size", 4}});
  Result<Model> model = read_model(config.dump(), {}, families);
  ASSERT_TRUE(model.ok()) << model.status().message();
  const std::string text = "fsdp:shard=2,units=flat";
  record_text(text);
  Result<ModelLayout> layout = make_model_layout(model.take(), text);
  ASSERT_TRUE(layout.ok()) << layout.status().message();
  const std::string embedding = "model.embed_tokens.weight";
  for (std::int32_t rank = 0; rank < 2; ++rank) {
    expect_buffer(memory_of(*layout, rank), "_flat_param", {6}, [&](const Index& i) {
      const std::int64_t flat = rank * 6 + i[0];
      return Element{embedding, {flat / 4, flat % 4}};
    });
    EXPECT_EQ(layout->blocks(rank, 0).size(), 2U) << "a whole row and a piece of one";
  }
}

TEST(SemanticsTest, Row07_UnitsAreLayersInTheOrderInWhichTheirModulesAreRegistered) {
  // q k v o gate up down and two norms: 100 elements on 3 ranks, 34 each, 2 behind the last one that nobody holds.
  const std::pair<const char*, std::pair<std::int64_t, std::int64_t>> params[] = {
      {"self_attn.q_proj.weight", {8, 2}},        {"self_attn.k_proj.weight", {4, 2}},
      {"self_attn.v_proj.weight", {4, 2}},        {"self_attn.o_proj.weight", {2, 8}},
      {"mlp.gate_proj.weight", {8, 2}},           {"mlp.up_proj.weight", {8, 2}},
      {"mlp.down_proj.weight", {2, 8}},           {"input_layernorm.weight", {2, 1}},
      {"post_attention_layernorm.weight", {2, 1}}};
  std::vector<Element> unit;
  for (const auto& [name, shape] : params) {
    for (std::int64_t i = 0; i < shape.first * shape.second; ++i) {
      const Index index = shape.second == 1 ? Index{i} : Index{i / shape.second, i % shape.second};
      unit.push_back({in_layer(1, name), index});
    }
  }
  ASSERT_EQ(unit.size(), 100U);
  unit.resize(102, kNothing);
  const ModelLayout layout = layout_of(tiny_llama(), "fsdp:shard=3,units=flat,replicate=2");
  for (std::int32_t rank = 0; rank < 6; ++rank) {
    expect_buffer(memory_of(layout, rank), in_layer(1, "_flat_param"), {34},
                  [&](const Index& i) { return unit[static_cast<std::size_t>(rank % 3 * 34 + i[0])]; });
  }
  EXPECT_THAT(error_of(tiny_llama(), "fsdp:shard=3,units=flat,tp=2"), HasSubstr("units=flat cuts whole units"));
  EXPECT_THAT(error_of(tiny_llama(), "fsdp:units=vector"), HasSubstr("expected one of parameter, flat, aligned"));
}

TEST(SemanticsTest, Row07_AlignedParametersBeginAtMultiplesOf16Bytes) {
  // Of bf16 at multiples of 8 elements: of embedding [3, 5], norm [5], output [3, 5] at 0, 16 and 24, 39 in all.
  const Json config = changed(tiny_llama(), {{"vocab_size", 3}, {"hidden_size", 5}});
  const Memory memory = memory_of(layout_of(config, "fsdp:shard=1,units=aligned"), 0);
  expect_buffer(memory, "_flat_param", {39}, [&](const Index& i) {
    if (i[0] < 15) return Element{"model.embed_tokens.weight", {i[0] / 5, i[0] % 5}};
    if (i[0] >= 24) return Element{"lm_head.weight", {(i[0] - 24) / 5, (i[0] - 24) % 5}};
    return i[0] >= 16 && i[0] < 21 ? Element{"model.norm.weight", {i[0] - 16}} : kNothing;
  });
}

// ---- Megatron: rows of fused parameters

TEST(SemanticsTest, Row12_GateAndUpOfExpertsAreInterleavedByBlocks) {
  // Row of gate i is (i / s) * 2 s + i % s, that of up is s more; F = 8, s = 2, two ranks of 8 rows.
  const ModelLayout layout = layout_of(tiny_qwen3_moe(), "megatron:tp=2,etp=2,glu_interleave=2");
  const std::string moe = in_layer(0, "mlp.experts."), fc1 = "decoder.layers.0.mlp.experts.linear_fc1.weight3";
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    std::vector<Element> fused(16);
    for (std::int64_t i = 0; i < 8; ++i) {
      const auto row = static_cast<std::size_t>(i / 2 * 4 + i % 2);
      fused[row] = {moe + "gate_proj.weight", {i}};
      fused[row + 2] = {moe + "up_proj.weight", {i}};
    }
    expect_buffer(memory_of(layout, static_cast<std::int32_t>(rank)), fc1, {8, 2}, [&](const Index& i) {
      const Element& of = fused[static_cast<std::size_t>(rank * 8 + i[0])];
      return Element{of.tensor, {3, of.index[0], i[1]}};
    });
  }
  EXPECT_THAT(error_of(tiny_qwen3_moe(), "megatron:tp=2,etp=2,glu_interleave=3"),
              testing::AllOf(HasSubstr("glu_interleave = 3"), HasSubstr("8 rows"), HasSubstr("etp = 2")));
}

void gated(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.has_output_gate = true;
  writer->layers("model.layers", [&](std::int64_t) { add_attention(attention, writer); });
}

ModelLayout gated_layout(const std::string& text) {
  const Family families[] = {{"gated", gated}};
  const Json config = changed(tiny_llama(), {{"model_type", "gated"}});
  Result<Model> model = read_model(config.dump(), {}, families);
  EXPECT_TRUE(model.ok()) << model.status().message();
  record_text(text);
  Result<ModelLayout> layout = make_model_layout(model.take(), text);
  EXPECT_TRUE(layout.ok()) << layout.status().message();
  return layout.take();
}

TEST(SemanticsTest, Row17_GatesOfAGroupStandBehindItsQueries) {
  // 8 heads of one row in 4 groups. Rows 2 h and 2 h + 1 of q_proj are query head h and its gate.
  const ModelLayout megatron = gated_layout("megatron:tp=2");
  const std::string qkv = "decoder.layers.0.self_attention.linear_qkv.weight";
  EXPECT_EQ(rows_on(megatron, 0, qkv), (Rows{"q0", "q2", "q1", "q3", "k0", "v0", "q4", "q6", "q5", "q7", "k1", "v1"}));
  EXPECT_EQ(rows_on(megatron, 1, qkv).front(), "q8");
  // vLLM holds a head and its gate as the checkpoint does.
  EXPECT_EQ(rows_on(gated_layout("vllm:tp=4"), 1, in_layer(0, "self_attn.qkv_proj.weight")),
            (Rows{"q4", "q5", "q6", "q7", "k1", "v1"}));
}

// ---- Megatron: latent attention. 4 heads, q rank 3, kv rank 2, nope 2, rope 1, v 2.

TEST(SemanticsTest, Row18_LatentDownProjectionsAreWholeCutOrFused) {
  const std::string attention = "decoder.layers.0.self_attention.";
  const ModelLayout fused = layout_of(tiny_deepseek(), "megatron:tp=2,mla_down=fused");
  const std::string q_a = in_layer(0, "self_attn.q_a_proj.weight"),
                    kv_a = in_layer(0, "self_attn.kv_a_proj_with_mqa.weight");
  for (const std::int32_t rank : {0, 1}) {
    expect_buffer(memory_of(fused, rank), attention + "linear_qkv.weight", {6, 2}, [&](const Index& i) {
      return i[0] < 3 ? Element{q_a, {i[0], i[1]}} : Element{kv_a, {i[0] - 3, i[1]}};
    });
  }
  const Json even = changed(tiny_deepseek(), {{"q_lora_rank", 4}, {"kv_lora_rank", 3}});
  const ModelLayout cut = layout_of(even, "megatron:tp=2,mla_down=cut");
  expect_buffer(memory_of(cut, 1), attention + "linear_q_down_proj.weight", {2, 2}, [&](const Index& i) {
    return Element{q_a, {2 + i[0], i[1]}};
  });
  expect_buffer(memory_of(cut, 1), attention + "linear_kv_down_proj.weight", {2, 2}, [&](const Index& i) {
    return Element{kv_a, {2 + i[0], i[1]}};
  });
  EXPECT_EQ(memory_of(cut, 1).buffers.at(attention + "q_layernorm.weight").size(), 4U) << "norms see all of it";
  EXPECT_THAT(error_of(tiny_deepseek(), "megatron:tp=2,mla_down=cut"),
              testing::AllOf(HasSubstr("linear_q_down_proj"), HasSubstr("tp = 2"), HasSubstr("3 rows")));
}

TEST(SemanticsTest, Row20_LatentUpProjectionsCanBeFour) {
  const ModelLayout layout = layout_of(tiny_deepseek(), "megatron:tp=2,mla_up=split");
  const Memory memory = memory_of(layout, 1);  // heads 2 and 3
  EXPECT_EQ(memory.defect, "");
  const std::string attention = "decoder.layers.0.self_attention.";
  const auto expect_rows = [&](const std::string& buffer, std::int64_t width, const std::string& tensor,
                               const std::vector<std::int64_t>& rows) {
    expect_buffer(memory, attention + buffer, {static_cast<std::int64_t>(rows.size()), width}, [&](const Index& i) {
      return Element{in_layer(0, tensor), {rows[static_cast<std::size_t>(i[0])], i[1]}};
    });
  };
  expect_rows("linear_qk_nope.weight", 3, "self_attn.q_b_proj.weight", {6, 7, 9, 10});    // h * 3 + i
  expect_rows("linear_qk_rope.weight", 3, "self_attn.q_b_proj.weight", {8, 11});          // h * 3 + 2
  expect_rows("linear_kv_nope.weight", 2, "self_attn.kv_b_proj.weight", {8, 9, 12, 13});  // h * 4 + i
  expect_rows("linear_v.weight", 2, "self_attn.kv_b_proj.weight", {10, 11, 14, 15});      // h * 4 + 2 + i
  EXPECT_EQ(memory.buffers.count(attention + "linear_q_up_proj.weight"), 0U);
}

// ---- Megatron: where layers are

/// The layers of the model on each stage, by the tensors of their input norms.
std::vector<std::vector<int>> layers_by_stage(const Json& config, const std::string& text, std::int32_t pp) {
  const ModelLayout layout = layout_of(config, text);
  std::vector<std::vector<int>> stages(static_cast<std::size_t>(pp));
  for (int layer = 0; layer < config["num_hidden_layers"]; ++layer) {
    const std::int64_t norm = layout.find_tensor(in_layer(layer, "input_layernorm.weight"));
    for (std::int32_t stage = 0; stage < pp; ++stage) {
      if (!layout.blocks(stage * layout.num_ranks() / pp, norm).empty())
        stages[static_cast<std::size_t>(stage)].push_back(layer);
    }
  }
  return stages;
}

using Stages = std::vector<std::vector<int>>;

TEST(SemanticsTest, Row23_VirtualStagesTakeTurns) {
  const Json config = changed(tiny_llama(), {{"num_hidden_layers", 8}});
  EXPECT_EQ(layers_by_stage(config, "megatron:pp=2,vpp=2", 2), (Stages{{0, 1, 4, 5}, {2, 3, 6, 7}}));
  EXPECT_EQ(layers_by_stage(config, "megatron:pp=2,vpp=2,layers=6-2,dp=2", 2), (Stages{{0, 1, 2, 4, 5, 6}, {3, 7}}));
  EXPECT_THAT(error_of(config, "megatron:pp=2,vpp=2,layers=5-3"),
              testing::AllOf(HasSubstr("5 layers of stage 0"), HasSubstr("vpp = 2")));
}

TEST(SemanticsTest, Row24_FirstAndLastStagesMayBeSmaller) {
  const Json config = changed(tiny_llama(), {{"num_hidden_layers", 8}});
  EXPECT_EQ(layers_by_stage(config, "megatron:pp=4,first=1,last=1", 4), (Stages{{0}, {1, 2, 3}, {4, 5, 6}, {7}}));
  EXPECT_EQ(layers_by_stage(config, "megatron:pp=3,last=2", 3), (Stages{{0, 1, 2}, {3, 4, 5}, {6, 7}}));
  EXPECT_EQ(layers_by_stage(config, "megatron:pp=2,first=3,last=5", 2), (Stages{{0, 1, 2}, {3, 4, 5, 6, 7}}));
  EXPECT_THAT(error_of(config, "megatron:pp=4,first=1"),
              testing::AllOf(HasSubstr("first = 1"), HasSubstr("7 of 8 layers for 3 stages")));
  EXPECT_THAT(error_of(config, "megatron:pp=2,first=3,last=4"), HasSubstr("1 of 8 layers for 0 stages"));
  EXPECT_THAT(error_of(config, "megatron:pp=2,first=9"), HasSubstr("first = 9"));
  EXPECT_THAT(error_of(config, "megatron:pp=2,first=3,layers=3-5"), HasSubstr("layers says what first and last say"));
  EXPECT_THAT(error_of(config, "megatron:first=8"), HasSubstr("need pp = 2"));
}

TEST(SemanticsTest, Row25_NoOpLayersArePlacesWithoutParameters) {
  // Qwen3-235B: 94 layers on 96 places, of which 5 and 95 are empty, 6 places on each of 16 stages.
  const Json published = Json::parse(published_config("Qwen3-235B-A22B"));
  const Stages stages = layers_by_stage(published, "megatron:pp=16,noop=5-95", 16);
  EXPECT_EQ(stages[0], (std::vector<int>{0, 1, 2, 3, 4}));
  EXPECT_EQ(stages[1], (std::vector<int>{5, 6, 7, 8, 9, 10}));
  EXPECT_EQ(stages[15], (std::vector<int>{89, 90, 91, 92, 93}));
  const Json config = changed(tiny_llama(), {{"num_hidden_layers", 6}});
  EXPECT_THAT(error_of(config, "megatron:pp=2,layers=3-3,noop=1"), HasSubstr("has 6 and there are 1 no-op ones"));
  EXPECT_THAT(error_of(config, "megatron:pp=2,noop=0-8"), HasSubstr("noop names place 8, but places are 0 to 7"));
  EXPECT_THAT(error_of(config, "megatron:pp=2,noop=1-1"), HasSubstr("noop names place 1 twice"));
  EXPECT_THAT(error_of(config, "megatron:pp=2,noop=x"), HasSubstr("noop is \"x\""));
}

TEST(SemanticsTest, Row25_NumbersWithinAChunkCountNoOpLayers) {
  // "3,4" with place 0 empty: the numbers are 1 2 on the first stage and 0 1 2 3 on the second.
  const Json config = changed(tiny_llama(), {{"num_hidden_layers", 6}});
  const ModelLayout layout = layout_of(config, "megatron:pp=2,layers=3-4,noop=0,names=chunk");
  const auto layer_of = [&](std::int32_t rank, const std::string& prefix) {
    const Memory memory = memory_of(layout, rank);
    EXPECT_EQ(memory.defect, "");
    const auto found = memory.buffers.find(prefix + ".input_layernorm.weight");
    return found == memory.buffers.end() ? "none" : found->second[0].tensor.substr(13, 1);
  };
  EXPECT_EQ(layer_of(0, "decoder.layers.0"), "none");
  EXPECT_EQ(layer_of(0, "decoder.layers.1") + layer_of(0, "decoder.layers.2"), "01");
  EXPECT_EQ(layer_of(1, "decoder.layers.0") + layer_of(1, "decoder.layers.3"), "25");
  const ModelLayout chunks = layout_of(config, "megatron:pp=3,vpp=2,names=chunk");
  EXPECT_EQ(memory_of(chunks, 1).buffers.at("1.decoder.layers.0.input_layernorm.weight")[0].tensor,
            in_layer(4, "input_layernorm.weight"));
}

// ---- Megatron: sizes

TEST(SemanticsTest, Row40_TheVocabularyIsPaddedToTheTrainersMultiple) {
  const Json config = changed(tiny_llama(), {{"vocab_size", 50257}});
  const auto rows = [&](const std::string& text) {
    return memory_of(layout_of(config, text), 0).buffers.at("output_layer.weight").size() / 2;
  };
  EXPECT_EQ(rows("megatron:tp=8"), 6400U);  // ceil(50257 / 1024) * 1024 / 8
  EXPECT_EQ(rows("megatron:tp=8,vocab_multiple=64"), 6336U);
  EXPECT_EQ(rows("megatron:tp=1,vocab_multiple=1"), 50257U);
}

TEST(SemanticsTest, Row10_ContextParallelRanksRepeatEachOther) {
  // rank = ((pp * dp + dp index) * cp + cp index) * tp + tp index; experts are spread over all of a stage.
  const ModelLayout layout = layout_of(tiny_qwen3_moe(), "megatron:tp=2,cp=2,dp=1,ep=4");
  ASSERT_EQ(layout.num_ranks(), 4);
  const std::string qkv = "decoder.layers.0.self_attention.linear_qkv.weight";
  EXPECT_EQ(memory_of(layout, 1).buffers.at(qkv), memory_of(layout, 3).buffers.at(qkv));
  EXPECT_EQ(memory_of(layout, 3).buffers.at("decoder.layers.0.mlp.experts.linear_fc2.weight0")[0].index[0], 3);
  EXPECT_THAT(error_of(tiny_qwen3_moe(), "megatron:tp=2,cp=2,ep=8"), HasSubstr("tp x cp x dp = 4"));
}

// ---- checkpoints whose parameters are fused or transposed

TEST(SemanticsTest, Row13_FusedCheckpointsAreTakenApartForEveryFramework) {
  // Phi-3: qkv_proj has 8 rows of q, then 4 of k, then 4 of v; gate_up_proj 8 of gate, then 8 of up.
  const Json config = changed(tiny_llama(), {{"model_type", "phi3"}});
  const ModelLayout megatron = layout_of(config, "megatron:tp=2"), vllm = layout_of(config, "vllm:tp=4");
  EXPECT_EQ(rows_on(megatron, 1, "decoder.layers.0.self_attention.linear_qkv.weight"),
            (Rows{"q4", "q5", "q10", "q14", "q6", "q7", "q11", "q15"}));
  EXPECT_EQ(rows_on(vllm, 1, in_layer(0, "self_attn.qkv_proj.weight")), (Rows{"q2", "q3", "q9", "q13"}));
  EXPECT_EQ(rows_on(megatron, 1, "decoder.layers.0.mlp.linear_fc1.weight"),
            (Rows{"g4", "g5", "g6", "g7", "g12", "g13", "g14", "g15"}));
  EXPECT_EQ(rows_on(vllm, 3, in_layer(0, "mlp.gate_up_proj.weight")), (Rows{"g6", "g7", "g14", "g15"}));
}

TEST(SemanticsTest, Row33_TransposedCheckpointsAreTurnedForMegatron) {
  // GPT-2 stores [in, out]: c_attn [4, 12] of 4 heads of 1; c_fc [4, 16]; c_proj [16, 4].
  const Json config = {{"model_type", "gpt2"}, {"n_embd", 4},      {"n_head", 4},
                       {"n_layer", 1},         {"n_positions", 3}, {"vocab_size", 10}};
  const Memory memory = memory_of(layout_of(config, "megatron:tp=2"), 1);
  EXPECT_EQ(memory.defect, "");
  const std::string h = "transformer.h.0.", layer = "decoder.layers.0.";
  expect_buffer(memory, layer + "self_attention.linear_qkv.weight", {6, 4}, [&](const Index& i) {
    return Element{h + "attn.c_attn.weight", {i[1], i[0] % 3 * 4 + 2 + i[0] / 3}};  // q2 k2 v2 q3 k3 v3
  });
  expect_buffer(memory, layer + "mlp.linear_fc1.weight", {8, 4}, [&](const Index& i) {
    return Element{h + "mlp.c_fc.weight", {i[1], 8 + i[0]}};
  });
  expect_buffer(memory, layer + "mlp.linear_fc2.weight", {4, 8}, [&](const Index& i) {
    return Element{h + "mlp.c_proj.weight", {8 + i[1], i[0]}};
  });
  // FSDP holds what the checkpoint has.
  const std::string fc = h + "mlp.c_fc.weight";
  expect_buffer(memory_of(layout_of(config, "fsdp:shard=2"), 1), fc, {2, 16}, [&](const Index& i) {
    return Element{fc, {2 + i[0], i[1]}};
  });
}

}  // namespace
}  // namespace reshard
