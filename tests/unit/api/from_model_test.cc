// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// Layouts of models and parts of models, and plans between sides that do not have the same tensors.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <reshard/reshard.h>

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/unit/api/transfer.h"
#include "tests/unit/temporary_file.h"

namespace {

using reshard::testing::LayoutOf;
using testing::HasSubstr;

const char* const kConfig = R"({"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 8, "vocab_size": 64,
    "num_attention_heads": 4, "intermediate_size": 16, "torch_dtype": "bfloat16"})";

reshard_model_options_t options_of(const char* text) {
  reshard_model_options_t options;
  reshard_model_options_init(&options);
  options.config_json = kConfig;
  options.layout = text;
  return options;
}

std::int64_t num_buffers(const LayoutOf& layout, std::int32_t rank) {
  std::int64_t count = -1;
  EXPECT_EQ(reshard_layout_num_buffers(layout.handle, rank, &count), RESHARD_OK);
  return count;
}

TEST(FromModelTest, ListOfRanksTypeAndFilter) {
  const std::vector<std::int32_t> ranks = {5, 2};
  reshard_model_options_t options = options_of("fsdp:shard=2");
  options.rank_list = ranks.data();
  options.rank_list_size = 2;
  options.num_ranks = 7;
  options.dtype = "f32";
  options.include = "model.layers.*.mlp.*,lm_head.weight";
  options.exclude = "*.up_proj.weight";
  const LayoutOf layout(options);
  std::int64_t num_tensors = 0;
  ASSERT_EQ(reshard_layout_num_tensors(layout.handle, &num_tensors), RESHARD_OK);
  EXPECT_EQ(num_tensors, 3);  // gate, down, output layer
  reshard_tensor_info_t tensor;
  reshard_tensor_info_init(&tensor);
  ASSERT_EQ(reshard_layout_get_tensor(layout.handle, 0, &tensor), RESHARD_OK);
  EXPECT_STREQ(tensor.name, "model.layers.0.mlp.gate_proj.weight");
  EXPECT_EQ(tensor.dtype, RESHARD_F32);
  for (const std::int32_t rank : {0, 1, 3, 4, 6}) EXPECT_EQ(num_buffers(layout, rank), 0) << rank;
  for (const std::int32_t rank : {5, 2}) EXPECT_EQ(num_buffers(layout, rank), 3) << rank;
  reshard_block_t block;
  reshard_block_init(&block);
  ASSERT_EQ(reshard_layout_get_block(layout.handle, 2, 0, 0, &block), RESHARD_OK);
  EXPECT_EQ(block.begin[0], 8);  // the second half of 16 rows
}

TEST(FromModelTest, OptionsOfTheFirstVersionAreTaken) {
  // As a caller that was compiled with the first header hands them over: 48 bytes, with anything behind them.
  reshard_model_options_t options = options_of("fsdp:shard=2");
  options.version = 1;
  options.struct_size = offsetof(reshard_model_options_t, rank_list);
  ASSERT_EQ(options.struct_size, 48U);
  const char* const rubbish = "what lies behind the struct";
  options.rank_list = reinterpret_cast<const std::int32_t*>(rubbish);
  options.rank_list_size = -7;
  options.dtype = rubbish;
  options.include = rubbish;
  options.exclude = rubbish;
  const LayoutOf layout(options);
  EXPECT_EQ(num_buffers(layout, 1), 12);
}

void expect_refused(reshard_model_options_t options, const char* text) {
  auto layout = reinterpret_cast<reshard_layout_t>(&options);
  EXPECT_EQ(reshard_layout_create_from_model(&options, &layout), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr(text));
  EXPECT_EQ(layout, nullptr);
}

TEST(FromModelTest, OptionsThatCannotBeMeantAreNamed) {
  reshard_model_options_t options = options_of("fsdp:shard=2");
  options.version = 1;
  expect_refused(options, "reshard_model_options_t has struct_size 88 and version 1");
  options = options_of("fsdp:shard=2");
  options.version = 3;
  expect_refused(options, "version 3");
  options = options_of("fsdp:shard=2");
  const std::vector<std::int32_t> ranks = {5, 5};
  options.rank_list = ranks.data();
  expect_refused(options, "rank_list_size is 0");
  options.rank_list_size = INT64_MAX;
  expect_refused(options, "rank_list_size is 9223372036854775807");
  options.rank_list_size = 1;
  expect_refused(options, "needs 2 ranks, the list has 1");
  options.rank_list_size = 2;
  expect_refused(options, "rank 5 is in the list twice");
  options = options_of("fsdp:shard=2");
  options.dtype = "F33";
  expect_refused(options, "F33");
  options = options_of("fsdp:shard=2");
  options.include = "lm_head.weight,";
  expect_refused(options, "a pattern of it is empty");
  options.include = "lm_head.wait";
  expect_refused(options, "include pattern \"lm_head.wait\"");
}

/// A source without output layer and a destination without embedding.
class UnmatchedTest : public ::testing::Test {
 protected:
  static reshard_model_options_t without(const char* exclude, const char* text) {
    reshard_model_options_t options = options_of(text);
    options.exclude = exclude;
    return options;
  }
  const LayoutOf src_{without("lm_head.weight", "fsdp:shard=2")};
  const LayoutOf dst_{without("model.embed_tokens.weight", "vllm:tp=2")};
};

TEST_F(UnmatchedTest, AreRefusedUnlessTheOptionsSkipThem) {
  reshard_plan_t plan = nullptr;
  EXPECT_EQ(reshard_plan_create(src_.handle, dst_.handle, nullptr, &plan), RESHARD_ERR_LAYOUT_MISMATCH);
  EXPECT_THAT(reshard_last_error(), HasSubstr("\"model.embed_tokens.weight\" is at the source but not"));
  reshard_plan_options_t options;
  reshard_plan_options_init(&options);
  const std::vector<int> unknown = {2};
  options.unmatched = static_cast<reshard_unmatched_t>(unknown.front());
  EXPECT_EQ(reshard_plan_create(src_.handle, dst_.handle, &options, &plan), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("unmatched is 2"));
  reshard_plan_options_init(&options);  // those of a caller that knows version 2
  options.version = 2;
  options.struct_size = offsetof(reshard_plan_options_t, unmatched);
  options.unmatched = RESHARD_UNMATCHED_SKIP;  // behind its end
  EXPECT_EQ(reshard_plan_create(src_.handle, dst_.handle, &options, &plan), RESHARD_ERR_LAYOUT_MISMATCH);
}

TEST_F(UnmatchedTest, AreListedWhenSkippedAlsoBySavedPlans) {
  reshard_plan_options_t options;
  reshard_plan_options_init(&options);
  options.unmatched = RESHARD_UNMATCHED_SKIP;
  reshard_plan_t made = nullptr, loaded = nullptr;
  ASSERT_EQ(reshard_plan_create(src_.handle, dst_.handle, &options, &made), RESHARD_OK) << reshard_last_error();
  const reshard::TemporaryFile file(".plan");
  ASSERT_EQ(reshard_plan_save(made, file.path().c_str()), RESHARD_OK) << reshard_last_error();
  ASSERT_EQ(reshard_plan_load(file.path().c_str(), src_.handle, dst_.handle, nullptr, &loaded), RESHARD_OK)
      << reshard_last_error();
  for (reshard_plan_t plan : {made, loaded}) {
    std::int64_t count = 0;
    ASSERT_EQ(reshard_plan_num_unmatched(plan, &count), RESHARD_OK);
    ASSERT_EQ(count, 2);
    const char* name = nullptr;
    std::int32_t is_at_source = -1;
    ASSERT_EQ(reshard_plan_get_unmatched(plan, 0, &name, &is_at_source), RESHARD_OK);
    EXPECT_STREQ(name, "model.embed_tokens.weight");
    EXPECT_EQ(is_at_source, 1);
    ASSERT_EQ(reshard_plan_get_unmatched(plan, 1, &name, &is_at_source), RESHARD_OK);
    EXPECT_STREQ(name, "lm_head.weight");
    EXPECT_EQ(is_at_source, 0);
    EXPECT_EQ(reshard_plan_get_unmatched(plan, 1, nullptr, nullptr), RESHARD_OK);
    for (const std::int64_t index : {-1, 2}) {
      EXPECT_EQ(reshard_plan_get_unmatched(plan, index, &name, nullptr), RESHARD_ERR_INVALID_ARGUMENT);
    }
    const char* text = nullptr;
    ASSERT_EQ(reshard_plan_report_json(plan, &text), RESHARD_OK);
    const nlohmann::json report = nlohmann::json::parse(text);
    EXPECT_EQ(report["unmatched"]["source"], (nlohmann::json{"model.embed_tokens.weight"}));
    EXPECT_EQ(report["unmatched"]["destination"], (nlohmann::json{"lm_head.weight"}));
    reshard_plan_info_t info;
    reshard_plan_info_init(&info);
    ASSERT_EQ(reshard_plan_get_info(plan, &info), RESHARD_OK);
    EXPECT_EQ(info.num_tensors, 10);
    reshard_plan_destroy(plan);
  }
}

TEST(UnmatchedSidesTest, ABiasThatTheServerHasNoParameterForIsRefused) {
  // vLLM's Qwen3 has no bias of o_proj, whatever the config says; dropped in silence it would be trained for nothing.
  const char* const config = R"({"model_type": "qwen3", "num_hidden_layers": 1, "hidden_size": 8, "vocab_size": 64,
      "num_attention_heads": 4, "head_dim": 2, "intermediate_size": 16, "attention_bias": true})";
  reshard_model_options_t from = options_of("fsdp:shard=2"), to = options_of("vllm:tp=2");
  from.config_json = to.config_json = config;
  const LayoutOf src(from), dst(to);
  reshard_plan_t plan = nullptr;
  EXPECT_EQ(reshard_plan_create(src.handle, dst.handle, nullptr, &plan), RESHARD_ERR_LAYOUT_MISMATCH);
  EXPECT_THAT(reshard_last_error(),
              HasSubstr("\"model.layers.0.self_attn.o_proj.bias\" is at the source but not at the "
                        "destination; leave it out there, or skip"));
  EXPECT_EQ(reshard_plan_create(dst.handle, src.handle, nullptr, &plan), RESHARD_ERR_LAYOUT_MISMATCH);
  EXPECT_THAT(reshard_last_error(), HasSubstr("at the destination but not at the source, and would keep what it has"));
  reshard_plan_options_t options;
  reshard_plan_options_init(&options);
  options.unmatched = RESHARD_UNMATCHED_SKIP;
  ASSERT_EQ(reshard_plan_create(src.handle, dst.handle, &options, &plan), RESHARD_OK) << reshard_last_error();
  const char* name = nullptr;
  ASSERT_EQ(reshard_plan_get_unmatched(plan, 0, &name, nullptr), RESHARD_OK);
  EXPECT_STREQ(name, "model.layers.0.self_attn.o_proj.bias");
  reshard_plan_destroy(plan);
}

TEST(UnmatchedSidesTest, WithoutACommonNameAreRefusedInAnyCase) {
  reshard_model_options_t left = options_of("fsdp"), right = options_of("fsdp");
  left.include = "lm_head.weight";
  right.include = "model.norm.weight";
  const LayoutOf src(left), dst(right);
  reshard_plan_options_t options;
  reshard_plan_options_init(&options);
  options.unmatched = RESHARD_UNMATCHED_SKIP;
  reshard_plan_t plan = nullptr;
  EXPECT_EQ(reshard_plan_create(src.handle, dst.handle, &options, &plan), RESHARD_ERR_LAYOUT_MISMATCH);
  EXPECT_THAT(reshard_last_error(), HasSubstr("no name is on both sides"));
}

}  // namespace
