// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What goes in arrives, and what comes back is what the C API gives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <reshard/reshard.hpp>

#include <unistd.h>

#include <filesystem>

#include "tests/unit/hpp/transfer.h"

namespace hpp_test {
namespace {

using std::chrono_literals::operator""s;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

/// A tensor [4, 6] whose dim is cut over two ranks.
reshard::Layout cut(std::int32_t dim, const reshard::Placement& more = {}) {
  auto layout = must(reshard::Layout::create(2));
  const auto tensor = must(layout.add_tensor({.name = "w", .dtype = RESHARD_BF16, .shape = {4, 6}, .group = 5}));
  reshard::Placement placement = more;
  placement.axes = {{.size = 2, .rule = RESHARD_SHARD_CHUNK, .dim = dim}};
  placement.ranks = {0, 1};
  must(layout.place(tensor, placement));
  return layout;
}

TEST(HppValuesTest, DefaultsAreThoseOfTheCApi) {
  reshard_plan_options_t plan;
  reshard_plan_options_init(&plan);
  const reshard::PlanOptions plan_options;
  EXPECT_EQ(plan_options.staging_bytes, plan.staging_bytes);
  EXPECT_EQ(plan_options.group_order, plan.group_order);
  EXPECT_EQ(plan_options.open_groups, plan.open_groups);
  EXPECT_EQ(plan_options.unmatched, plan.unmatched);

  reshard_binding_desc_t binding;
  reshard_binding_desc_init(&binding);
  const reshard::BindingOptions binding_options;
  EXPECT_EQ(binding_options.timeout.count(), binding.timeout_us);
  EXPECT_EQ(binding_options.driver, binding.driver);
  EXPECT_EQ(binding_options.may_revoke_nccl_comm, binding.may_revoke_nccl_comm != 0);
  EXPECT_EQ(binding_options.capturable, binding.capturable != 0);
  EXPECT_EQ(binding_options.max_ctas, binding.max_ctas);
  EXPECT_EQ(binding_options.traffic_class, binding.traffic_class);
  EXPECT_EQ(binding_options.device, binding.device);

  reshard_buffer_t buffer;
  reshard_buffer_init(&buffer);
  EXPECT_EQ(reshard::Buffer().id, buffer.id);
  EXPECT_EQ(reshard::Buffer().memory, buffer.memory);
  EXPECT_EQ(reshard::Buffer().device, buffer.device);

  reshard_comm_options_t comm;
  reshard_comm_options_init(&comm);
  EXPECT_EQ(reshard::CommOptions().timeout.count(), comm.timeout_us);
  reshard_reload_desc_t reload;
  reshard_reload_desc_init(&reload);
  EXPECT_EQ(reshard::ReloadOptions().timeout.count(), reload.timeout_us);
  EXPECT_EQ(reshard::ReloadOptions().lands_directly, reload.lands_directly != 0);
}

TEST(HppValuesTest, OtherDefaultsAreThoseOfTheCApi) {
  reshard_machine_discover_options_t discover;
  reshard_machine_discover_options_init(&discover);
  EXPECT_EQ(reshard::DiscoverOptions().gpu, discover.gpu);
  EXPECT_EQ(reshard::DiscoverOptions().nic_bits_per_s, discover.nic_bits_per_s);
  EXPECT_EQ(reshard::DiscoverOptions().timeout.count(), discover.timeout_us);

  reshard_placement_desc_t placement;
  reshard_placement_desc_init(&placement);
  EXPECT_EQ(reshard::Placement().buffer, placement.buffer);
  EXPECT_EQ(reshard::Placement().offset_bytes, placement.offset_bytes);
  EXPECT_EQ(reshard::Placement().nest_inner_first, placement.nest_inner_first != 0);
  reshard_axis_placement_t axis;
  reshard_axis_placement_init(&axis);
  EXPECT_EQ(reshard::Axis().rule, axis.rule);
  reshard_model_options_t model;
  reshard_model_options_init(&model);
  EXPECT_EQ(reshard::ModelOptions().num_layers, model.num_layers);
  EXPECT_EQ(reshard::ModelOptions().first_rank, model.first_rank);
  EXPECT_EQ(reshard::ModelOptions().num_ranks, model.num_ranks);
  EXPECT_EQ(reshard::kInfinite.count(), RESHARD_TIMEOUT_INFINITE);
}

TEST(HppValuesTest, ALayoutHoldsWhatItWasGiven) {
  const auto layout = cut(1, {.order = {1, 0}, .pad_to = {4, 5}});
  EXPECT_EQ(must(layout.num_tensors()), 1);
  const auto tensor = must(layout.tensor(0));
  EXPECT_STREQ(tensor.name, "w");
  EXPECT_EQ(tensor.dtype, RESHARD_BF16);
  EXPECT_EQ(tensor.num_dims, 2);
  EXPECT_EQ(tensor.shape[1], 6);
  EXPECT_EQ(tensor.group, 5);
  EXPECT_EQ(must(layout.find_tensor("w")), 0);
  EXPECT_EQ(must(layout.find_tensor("v")), std::nullopt);
  const auto shape = must(layout.local_shape(1, 0));
  ASSERT_TRUE(shape.has_value());
  EXPECT_EQ((*shape)[0], 4);
  EXPECT_EQ((*shape)[1], 5);  // padded
  EXPECT_EQ(must(layout.buffers(0)).at(0).size_bytes, 4 * 5 * 2);
  bool has_padding = false;
  for (const reshard_block_t& block : must(layout.blocks(1))) {
    if (block.kind == RESHARD_BLOCK_ZERO) has_padding = true;
    if (block.kind != RESHARD_BLOCK_DATA) continue;
    EXPECT_EQ(block.begin[1], 3);
    EXPECT_EQ(block.strides_bytes[0], 2);  // the memory order is the other way round
    EXPECT_EQ(block.strides_bytes[1], 8);
  }
  EXPECT_TRUE(has_padding);
  EXPECT_THAT(must(layout.describe_rank(0)), HasSubstr("w"));
}

TEST(HppValuesTest, EveryRuleArrives) {
  auto layout = must(reshard::Layout::create(4));
  const auto add = [&](const char* name, const reshard::Axis& axis) {
    const auto tensor = must(layout.add_tensor({.name = name, .shape = {8}}));
    must(layout.place(tensor, {.axes = {{.size = 2}, axis}, .ranks = {0, 1, 2, 3}}));
    std::vector<std::int64_t> begins;
    for (const reshard_block_t& block : must(layout.blocks(3))) {
      if (block.tensor == tensor) begins.push_back(block.begin[0]);
    }
    return begins;
  };
  EXPECT_THAT(add("cuts", {.size = 2, .rule = RESHARD_SHARD_CUTS, .cuts = {0, 7, 8}}), ElementsAre(7));
  EXPECT_THAT(add("cyclic", {.size = 2, .rule = RESHARD_SHARD_CYCLIC, .block = 2}), ElementsAre(2, 6));
  EXPECT_THAT(add("table", {.size = 2, .rule = RESHARD_SHARD_TABLE, .entries = {{0, 0, 8}, {1, 5, 6}}}),
              ElementsAre(5));
}

TEST(HppValuesTest, LayoutsBlockByBlockAndAsBytes) {
  auto layout = must(reshard::Layout::create(2));
  const auto tensor = must(layout.add_tensor({.name = "w", .shape = {8}}));
  const auto buffer = must(layout.add_buffer(1, "flat", 64));
  must(layout.add_flat_range(1, tensor, 2, 6, buffer, 32));
  const auto bytes = must(layout.serialize());
  const auto again = must(reshard::Layout::deserialize(std::vector<std::byte>(bytes.begin(), bytes.end())));
  const auto blocks = must(again.blocks(1));
  ASSERT_THAT(blocks, SizeIs(1));
  EXPECT_EQ(blocks[0].begin[0], 2);
  EXPECT_EQ(blocks[0].end[0], 6);
  EXPECT_EQ(blocks[0].offset_bytes, 32);
  EXPECT_THAT(must(again.blocks(0)), IsEmpty());
  const std::int32_t lost[] = {1};
  must(layout.remove_ranks(lost));
  EXPECT_THAT(must(layout.blocks(1)), IsEmpty());
}

TEST(HppValuesTest, ScalesBelongToTheirTensor) {
  auto layout = must(reshard::Layout::create(1));
  const auto codes = must(layout.add_tensor({.name = "w", .dtype = RESHARD_F8_E4M3, .shape = {128, 256}}));
  const auto scales = must(layout.add_tensor({.name = "w_scale_inv", .dtype = RESHARD_F32, .shape = {1, 2}}));
  must(layout.set_scales(codes, RESHARD_SCALES_BLOCK128, scales));
  reshard_scale_kind_t kind = RESHARD_SCALES_NONE;
  std::int64_t index = -1;
  ASSERT_EQ(reshard_layout_get_scales(layout.get(), codes, &kind, &index), RESHARD_OK);
  EXPECT_EQ(kind, RESHARD_SCALES_BLOCK128);
  EXPECT_EQ(index, scales);
}

TEST(HppValuesTest, ListsOfTheWrongLengthAreRefusedBeforeTheyAreRead) {
  auto layout = must(reshard::Layout::create(4));
  const auto tensor = must(layout.add_tensor({.name = "w", .shape = {4, 6}}));
  const reshard::Axis halves{.size = 2, .rule = RESHARD_SHARD_EVEN};
  const auto expect_refused = [&](const reshard::Placement& placement, const char* text) {
    const auto result = layout.place(tensor, placement);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().status, RESHARD_ERR_INVALID_ARGUMENT);
    EXPECT_THAT(result.error().message, HasSubstr(text));
  };
  expect_refused({.axes = {halves, halves}, .ranks = {0, 1, 2}}, "have 4 places, its list has 3 ranks");
  expect_refused({.axes = {halves}, .ranks = {0, 1, 2}}, "have 2 places, its list has 3 ranks");
  expect_refused({.axes = {halves}, .ranks = {0, 1}, .order = {0}}, "order has 1 entries");
  expect_refused({.axes = {halves}, .ranks = {0, 1}, .pad_to = {4, 6, 1}}, "pad_to 3; each has none or 2");
  expect_refused({.axes = {{.size = 1L << 40}, {.size = 1L << 40}}, .ranks = {0}}, "");
  const auto many = layout.add_tensor({.name = "nine", .shape = {1, 1, 1, 1, 1, 1, 1, 1, 1}});
  ASSERT_FALSE(many);
  EXPECT_EQ(many.error().status, RESHARD_ERR_INVALID_ARGUMENT);
}

TEST(HppValuesTest, APlanAnswersAsTheCApiDoes) {
  const auto src = cut(0), dst = cut(1);
  const auto machine = must(reshard::Machine::create("hgx-h100", std::vector<std::int32_t>{2}));
  EXPECT_EQ(must(machine.num_ranks()), 2);
  EXPECT_THAT(must(machine.warnings()), IsEmpty());
  EXPECT_THAT(must(machine.report_json()), HasSubstr("hgx-h100"));
  auto plan = must(reshard::Plan::create(
      src, dst, {.staging_bytes = 1 << 20, .machine = &machine, .group_order = RESHARD_ORDER_ANY, .open_groups = 3}));
  const auto info = must(plan.info());
  EXPECT_EQ(info.num_ranks, 2);
  EXPECT_EQ(info.bytes_crossed, 24);
  EXPECT_EQ(info.bytes_local, 24);
  EXPECT_THAT(must(plan.groups()), ElementsAre(5));
  EXPECT_GT(must(plan.simulate()), 0);
  EXPECT_THAT(must(plan.report_json()), HasSubstr("\"staging_budget_bytes\":1048576"));
  EXPECT_THAT(must(plan.report_json()), HasSubstr("\"group_order\":\"any\""));
  EXPECT_THAT(must(plan.report_json()), HasSubstr("\"open_groups\":3"));
  EXPECT_THAT(must(plan.details_json()), HasSubstr("timeline"));
  EXPECT_THAT(must(plan.advise_json()), HasSubstr("moved_bytes_now"));
  EXPECT_THAT(must(plan.stream_json(22907)), HasSubstr("operations_limit"));
  const auto manifest = must(reshard::Manifest::create(plan, 1));
  ASSERT_EQ(must(manifest.num_tensors()), 1);
  EXPECT_EQ(must(manifest.tensor(0)).num_elements, 12);
  EXPECT_EQ(must(manifest.piece(0, 0)).begin[1], 3);
  EXPECT_EQ(must(must(plan.replan(src, dst)).info()).bytes_crossed, 24);
  EXPECT_EQ(must(must(plan.update(dst)).info()).bytes_crossed, 24);
}

TEST(HppValuesTest, APlanIsSavedAndLoaded) {
  const auto src = cut(0), dst = cut(1);
  const auto plan = must(reshard::Plan::create(src, dst));
  const auto path = std::filesystem::temp_directory_path() / ("hpp_test_" + std::to_string(::getpid()) + ".plan");
  must(plan.save(path.string()));
  EXPECT_EQ(must(must(reshard::Plan::load(path.string(), src, dst)).info()).hash, must(plan.info()).hash);
  std::filesystem::remove(path);
  const auto gone = reshard::Plan::load(path.string(), src, dst);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().status, RESHARD_ERR_IO);
}

TEST(HppValuesTest, TensorsOfOneSideAreListed) {
  auto src = cut(0);
  const auto extra = must(src.add_tensor({.name = "extra", .shape = {2}}));
  must(src.place(extra, {.axes = {{.size = 2}}, .ranks = {0, 1}}));
  const auto plan = must(reshard::Plan::create(src, cut(1), {.unmatched = RESHARD_UNMATCHED_SKIP}));
  const auto unmatched = must(plan.unmatched());
  ASSERT_THAT(unmatched, SizeIs(1));
  EXPECT_STREQ(unmatched[0].name, "extra");
  EXPECT_TRUE(unmatched[0].is_at_source);
}

TEST(HppValuesTest, AModelIsLaidOutByText) {
  EXPECT_EQ(must(reshard::Layout::num_ranks_of("vllm:tp=2,replicas=3")), 6);
  const auto wrong = reshard::Layout::from_model({.config_json = "{}", .layout = "vllm:tp=2"});
  ASSERT_FALSE(wrong);
  const char config[] = R"({"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 96, "torch_dtype": "bfloat16",
    "tie_word_embeddings": false})";
  const auto layout = must(reshard::Layout::from_model({.config_json = config,
                                                        .layout = "fsdp:shard=2",
                                                        .num_layers = 1,
                                                        .num_ranks = 4,
                                                        .rank_list = {3, 1},
                                                        .dtype = "F32",
                                                        .include = "*layers*",
                                                        .exclude = "*norm*"}));
  EXPECT_EQ(must(layout.num_ranks()), 4);
  EXPECT_EQ(must(layout.num_tensors()), 7);
  EXPECT_EQ(must(layout.tensor(0)).dtype, RESHARD_F32);
  EXPECT_THAT(must(layout.blocks(0)), IsEmpty());
  EXPECT_THAT(must(layout.blocks(3)), SizeIs(7));
}

TEST(HppValuesTest, MemoryIsZeroedAndCopied) {
  auto comms = must(reshard::Comm::local(1));
  const auto memory = must(comms[0].alloc(10));
  EXPECT_THAT(memory.as<std::int32_t>(), ElementsAre(0, 0));  // the last two bytes are no element
  const std::int32_t values[] = {5, 6};
  must(reshard::copy(memory.data(), values, sizeof values));
  EXPECT_THAT(memory.as<std::int32_t>(), ElementsAre(5, 6));
  const auto device = comms[0].alloc(8, RESHARD_MEMORY_CUDA, 1000);
  EXPECT_FALSE(device);  // no machine has so many
  const auto count = reshard::device_count();
  EXPECT_TRUE(count || count.error().status == RESHARD_ERR_NOT_SUPPORTED);
}

TEST(HppValuesTest, ACommWithoutALauncherAndAnEventOfHostMemoryAreToldSo) {
  const auto comm = reshard::Comm::from_environment({.timeout = 1s});
  EXPECT_FALSE(comm);
  auto comms = must(reshard::Comm::local(1));
  const auto layouts = must(reshard::Layout::from_spec(kThreeLayers));
  const auto plan = must(reshard::Plan::create(layouts.src, layouts.dst));
  std::vector<float> values(24);
  reshard::BindingOptions options;
  for (std::size_t l = 0; l < 3; ++l) {
    options.src.push_back({.id = static_cast<std::int64_t>(l), .ptr = &values[4 * l], .size_bytes = 16});
    options.dst.push_back({.id = static_cast<std::int64_t>(l), .ptr = &values[12 + 4 * l], .size_bytes = 16});
  }
  auto binding = must(reshard::Binding::create(plan, comms[0], options));
  EXPECT_EQ(binding.group_event(0).error().status, RESHARD_ERR_NOT_SUPPORTED);
  const auto machine = reshard::Machine::discover(comms[0]);  // what it finds depends on the machine
  EXPECT_TRUE(!machine || must(machine->num_ranks()) == 1);
}

}  // namespace
}  // namespace hpp_test
