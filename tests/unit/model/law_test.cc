// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// Laws that hold for every family and every setting: each element of each buffer is one element of one tensor or
// declared padding, and every element of the model is somewhere.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <set>

#include "memory.h"
#include "src/model/model.h"

namespace reshard {
namespace {

using Json = nlohmann::json;

std::int64_t pick(std::initializer_list<std::int64_t> values) {
  return *rc::gen::elementOf(std::vector(values));
}

/// A small model of a random family whose sizes divide by 4, the most tensor-parallel ranks of random_text, or not.
Json random_config() {
  const std::vector<Json> families = {tiny_llama(), tiny_qwen3_moe(), tiny_mixtral(), tiny_deepseek()};
  Json config = *rc::gen::elementOf(families);
  if (config["model_type"] == "llama" && pick({0, 1}) == 1) config["model_type"] = "qwen3";
  config["num_hidden_layers"] = pick({1, 2, 3});
  config["vocab_size"] = pick({1, 63, 64, 65, 129});
  config["hidden_size"] = pick({1, 2, 3});
  config["intermediate_size"] = pick({16, 16, 12, 7});
  config["tie_word_embeddings"] = pick({0, 1}) == 1;
  if (config.contains("head_dim")) {
    config["head_dim"] = pick({2, 4});
    config["num_key_value_heads"] = pick({1, 2, 4, 8});
  }
  for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts"}) {
    if (config.contains(key)) config[key] = pick({2, 4, 4, 6, 7});
  }
  if (config["model_type"] == "deepseek_v3") config["num_nextn_predict_layers"] = pick({0, 1, 2});
  if (config.contains("moe_intermediate_size")) config["moe_intermediate_size"] = pick({8, 16, 9});
  return config;
}

/// Some of the layers for multi-token prediction that a random_config has.
std::string random_mtp(const Json& config) {
  const std::int64_t most = config.value("num_nextn_predict_layers", 0);
  return most == 0 ? "" : fmt::format(",mtp={}", pick({0, 1, most}));
}

std::string random_text(bool has_experts) {
  const std::int64_t tp = pick({1, 2, 4}), dp = pick({1, 2, 3}), pp = pick({1, 2, 3});
  switch (pick({0, 1, 2, 3, 4})) {
    case 0:
      return fmt::format("fsdp:shard={},replicate={},experts={},units={}", pick({1, 2, 3, 5, 8}), dp,
                         pick({0, 1}) == 1 ? "stacked" : "each",
                         *rc::gen::elementOf(std::vector<std::string>{"parameter", "parameter", "flat", "aligned"}));
    case 1:
      return fmt::format("checkpoint:{}={}", pick({0, 1}) == 1 ? "ranks" : "split", pick({1, 2, 5}));
    case 2: {
      const std::int64_t etp = pick({1, 2}), ep = has_experts ? pick({1, 2}) : 1;
      return fmt::format("megatron:tp={},pp={},dp={},ep={},etp={},experts={}", tp, pp, dp, ep, etp,
                         *rc::gen::elementOf(std::vector<std::string>{"each", "local", "gmm"}));
    }
    default: {
      const std::string ep = has_experts && pick({0, 1}) == 1 ? fmt::format(",ep={}", tp * dp) : "";
      const char* placement =
          !ep.empty() && pick({0, 1}) == 1 ? ",placement=round_robin,all2all=deepep_low_latency" : "";
      return fmt::format("vllm:tp={},pp={},dp={},replicas={}{}{}", tp, pp, dp, pick({1, 2}), ep, placement);
    }
  }
}

TEST(ModelLawTest, EveryBufferElementIsOneElementOrPaddingAndNoElementIsLost) {
  std::int64_t num_layouts = 0, num_texts = 0;
  EXPECT_TRUE(rc::check([&] {
    const Json config = random_config();
    std::string text = random_text(config["model_type"] != "llama" && config["model_type"] != "qwen3");
    if (!text.starts_with("fsdp")) text += random_mtp(config);
    ++num_texts;
    const Result<ModelLayout> layout = make_model_layout(config.dump(), text);
    if (!layout.ok()) {  // sizes that the framework refuses
      RC_ASSERT(!layout.status().message().empty());
      return;
    }
    ++num_layouts;
    RC_ASSERT(layout->num_ranks() == *layout_text_num_ranks(text));
    std::set<std::pair<std::string, Index>> held;
    for (std::int32_t rank = 0; rank < layout->num_ranks(); ++rank) {
      const Memory memory = memory_of(*layout, rank);
      RC_ASSERT(memory.defect == "");
      for (const auto& [name, elements] : memory.buffers) {
        for (const Element& element : elements) {
          if (!(element == kZero) && !(element == kNothing)) held.emplace(element.tensor, element.index);
        }
      }
    }
    std::size_t num_elements = 0;
    for (const Tensor& tensor : layout->tensors()) {
      num_elements += static_cast<std::size_t>(whole_box(tensor.shape).num_elements());
    }
    RC_ASSERT(held.size() == num_elements);
  }));
  EXPECT_GE(num_layouts * 3, num_texts) << "most random settings are refused: the law says little";
}

}  // namespace
}  // namespace reshard
