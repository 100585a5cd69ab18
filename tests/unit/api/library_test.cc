// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Functions of the C boundary that no other test has a use for.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "reshard/reshard.h"
#include "tests/unit/api/transfer.h"

namespace reshard::testing {
namespace {

using ::testing::HasSubstr;

TEST(LibraryTest, SaysWhatItIs) {
  EXPECT_THAT(reshard_version(), HasSubstr("."));
  EXPECT_THAT(reshard_build_info(), HasSubstr(reshard_version()));
  EXPECT_STREQ(reshard_dtype_name(RESHARD_F8_E4M3), "F8_E4M3");
}

TEST(LibraryTest, LayoutsOfModelsNeedAsManyRanksAsTheirTextSays) {
  std::int32_t num_ranks = 0;
  EXPECT_EQ(reshard_layout_text_num_ranks("vllm:tp=2,replicas=4", &num_ranks), RESHARD_OK) << reshard_last_error();
  EXPECT_EQ(num_ranks, 8);
  reshard_model_options_t options;
  reshard_model_options_init(&options);
  options.config_json = R"({"model_type": "qwen3", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 64, "tie_word_embeddings": true,
    "torch_dtype": "bfloat16"})";
  options.layout = "vllm:tp=2,replicas=4";
  options.first_rank = 3;
  reshard_layout_t layout = nullptr;
  ASSERT_EQ(reshard_layout_create_from_model(&options, &layout), RESHARD_OK) << reshard_last_error();
  EXPECT_EQ(reshard_layout_num_ranks(layout, &num_ranks), RESHARD_OK);
  EXPECT_EQ(num_ranks, 11);
  reshard_layout_destroy(layout);
  options.layout = "vllm:replicas=300000";
  EXPECT_EQ(reshard_layout_create_from_model(&options, &layout), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("262144"));
}

TEST(LibraryTest, AUniqueIdMakesACommOfOneRank) {
  reshard_unique_id_t id;
  const reshard_status_t made = reshard_unique_id_create(nullptr, &id);
  if (made == RESHARD_ERR_NOT_SUPPORTED) GTEST_SKIP() << reshard_last_error();
  ASSERT_EQ(made, RESHARD_OK) << reshard_last_error();
  reshard_comm_options_t options;
  reshard_comm_options_init(&options);
  reshard_comm_t comm = nullptr;
  ASSERT_EQ(reshard_comm_create_from_id(&id, 0, 1, &options, &comm), RESHARD_OK) << reshard_last_error();
  std::int32_t num_ranks = -1;
  EXPECT_EQ(reshard_comm_size(comm, &num_ranks), RESHARD_OK);
  EXPECT_EQ(num_ranks, 1);
  reshard_comm_destroy(comm);
  EXPECT_EQ(reshard_unique_id_destroy(&id), RESHARD_OK) << reshard_last_error();  // joined: nothing is left to close
  EXPECT_EQ(reshard_unique_id_destroy(nullptr), RESHARD_ERR_INVALID_ARGUMENT);
}

TEST(LibraryTest, PlansAreMadeAnewAndNameTheirGroups) {
  const Sides sides(replicating_spec(10, 6));
  const PlanOf plan(sides, nullptr);
  reshard_plan_t again = nullptr;
  ASSERT_EQ(reshard_plan_replan(plan.handle, sides.src, sides.dst, &again), RESHARD_OK) << reshard_last_error();
  std::int64_t group = -1;
  EXPECT_EQ(reshard_plan_get_group(again, 2, &group), RESHARD_OK);
  EXPECT_EQ(group, 20);
  EXPECT_EQ(reshard_plan_get_group(again, 3, &group), RESHARD_ERR_INVALID_ARGUMENT);
  reshard_plan_destroy(again);
}

}  // namespace
}  // namespace reshard::testing
