// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// Layouts stay what they are: saved plans name them by digest, and ranks with other builds compare digests.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>

#include "memory.h"
#include "src/model/model.h"

namespace reshard {
namespace {

using Json = nlohmann::json;

Json wide_gpt(const std::string& model_type) {
  return {{"model_type", model_type}, {"n_embd", 24},     {"n_head", 8}, {"n_layer", 5},
          {"n_positions", 7},         {"vocab_size", 131}};
}

/// A tower of 3 layers, 8 heads of 2, and the decoder of another family, of 5 layers.
Json tiny_vision(const std::string& model_type, const std::string& decoder) {
  Json text = changed(decoder == "qwen3_moe" ? tiny_qwen3_moe() : tiny_llama(),
                      {{"num_hidden_layers", 5}, {"vocab_size", 131}});
  text.erase("model_type");
  const Json vision = {{"depth", 3},
                       {"hidden_size", 16},
                       {"intermediate_size", 8},
                       {"num_heads", 8},
                       {"out_hidden_size", 2},
                       {"patch_size", 2},
                       {"num_position_embeddings", 5},
                       {"deepstack_visual_indexes", {0, 2}}};
  return {{"model_type", model_type}, {"text_config", text}, {"vision_config", vision}};
}

/// Small models by name: each family, and each option of a config that moves bytes.
const std::map<std::string, Json>& small_models() {
  // 8 heads of 3, widths that 4 ranks divide, a vocabulary that nothing does.
  const Json sizes = {{"num_hidden_layers", 5}, {"hidden_size", 6}, {"vocab_size", 131}, {"head_dim", 3}};
  const Json deepseek = changed(tiny_deepseek(), {{"num_hidden_layers", 5}, {"vocab_size", 131}, {"n_group", 2}});
  Json silent = deepseek;
  silent.erase("topk_method");
  static const std::map<std::string, Json> models = {
      {"llama", changed(tiny_llama(), sizes)},
      {"llama-tied", changed(changed(tiny_llama(), sizes), {{"tie_word_embeddings", true}})},
      {"llama-mqa", changed(changed(tiny_llama(), sizes), {{"num_key_value_heads", 2}, {"torch_dtype", "float32"}})},
      {"qwen3", changed(changed(tiny_llama(), sizes), {{"model_type", "qwen3"}, {"num_key_value_heads", 8}})},
      {"qwen3_moe", changed(changed(tiny_qwen3_moe(), sizes), {{"num_experts", 8}})},
      {"qwen3_moe-step", changed(changed(tiny_qwen3_moe(), sizes), {{"num_experts", 8}, {"decoder_sparse_step", 2}})},
      {"qwen3_moe-dense", changed(changed(tiny_qwen3_moe(), sizes), {{"num_experts", 8}, {"mlp_only_layers", {0, 3}}})},
      {"mixtral", changed(changed(tiny_mixtral(), sizes), {{"num_local_experts", 8}})},
      {"deepseek", deepseek},
      {"deepseek-two-shared", changed(deepseek, {{"n_shared_experts", 2}, {"moe_layer_freq", 2}})},
      {"deepseek-none-shared", changed(deepseek, {{"n_shared_experts", 0}, {"first_k_dense_replace", 0}})},
      {"deepseek-no-q-rank", changed(deepseek, {{"q_lora_rank", nullptr}, {"model_type", "kimi_k2"}})},
      {"deepseek-no-topk-method", silent},
      {"glm", changed(changed(tiny_llama(), sizes), {{"model_type", "glm"}})},
      {"gpt2", wide_gpt("gpt2")},
      {"gpt_bigcode", wide_gpt("gpt_bigcode")},
      {"gpt_bigcode-many-heads", changed(wide_gpt("gpt_bigcode"), {{"multi_query", false}})},
      {"starcoder2", changed(changed(tiny_llama(), sizes), {{"model_type", "starcoder2"}})},
      {"olmo2", changed(changed(tiny_llama(), sizes), {{"model_type", "olmo2"}})},
      {"seed_oss", changed(changed(tiny_llama(), sizes), {{"model_type", "seed_oss"}})},
      {"hunyuan_v1_dense", changed(changed(tiny_llama(), sizes), {{"model_type", "hunyuan_v1_dense"}})},
      {"ernie4_5", changed(changed(tiny_llama(), sizes), {{"model_type", "ernie4_5"}})},
      {"internlm", changed(changed(tiny_llama(), sizes), {{"model_type", "internlm"}})},
      {"internlm2", changed(changed(tiny_llama(), sizes), {{"model_type", "internlm2"}})},
      {"aquila", changed(changed(tiny_llama(), sizes), {{"model_type", "aquila"}})},
      {"qwen2_5_vl", tiny_vision("qwen2_5_vl", "qwen2")},
      {"qwen3_vl", tiny_vision("qwen3_vl", "qwen3")},
      {"qwen3_vl_moe", tiny_vision("qwen3_vl_moe", "qwen3_moe")},
  };
  return models;
}

/// "record:FAMILY" is the small model of that family's record in tests/data/families.
std::string recorded_config(const std::string& family) {
  std::ifstream file(std::string(RESHARD_SOURCE_DIR) + "/tests/data/families/" + family + ".json");
  return Json::parse(file)["models"]["small"]["config"].dump();
}

std::string config_of(const std::string& model) {
  if (model.starts_with("record:")) return recorded_config(model.substr(7));
  const auto small = small_models().find(model);
  return small != small_models().end() ? small->second.dump() : published_config(model);
}

/// The digest in hexadecimal digits, or nothing where the text is refused.
std::string digest_of(const std::string& model, const std::string& text) {
  const Result<ModelLayout> layout = make_model_layout(config_of(model), text);
  return layout.ok() ? fmt::format("{:016x}", layout->digest()) : "";
}

TEST(LayoutDigestTest, EveryTextGivesTheLayoutThatItGaveBefore) {
  std::ifstream file(std::string(RESHARD_SOURCE_DIR) + "/tests/data/layout_digests.txt");
  std::string line;
  int num_checked = 0;
  while (std::getline(file, line)) {
    if (line.empty() || line.front() == '#') continue;
    std::string digest, model, text;
    std::istringstream(line) >> digest >> model >> text;
    EXPECT_EQ(digest_of(model, text), digest) << model << " " << text;
    ++num_checked;
  }
  EXPECT_GT(num_checked, 300);
}

const std::vector<std::string> kTexts = {
    "fsdp",
    "fsdp:shard=3",
    "fsdp:shard=4,replicate=2",
    "checkpoint:ranks=2",
    "checkpoint:split=3",
    "megatron",
    "megatron:tp=2",
    "megatron:tp=4,dp=2",
    "megatron:tp=2,pp=2,dp=2",
    "megatron:tp=2,pp=3,layers=1-3-1",
    "megatron:tp=2,dp=2,ep=4",
    "megatron:tp=2,pp=2,dp=2,ep=2,etp=2",
    "megatron:tp=4,etp=4,experts=gmm",
    "megatron:tp=8",
    "vllm",
    "vllm:tp=2",
    "vllm:tp=4,replicas=2",
    "vllm:tp=8",
    "vllm:tp=2,dp=2",
    "vllm:tp=2,pp=2,dp=2,replicas=2",
    "vllm:tp=4,pp=3",
    "vllm:tp=2,ep=2",
    "vllm:tp=2,ep=4",
    "vllm:tp=2,pp=2,ep=4,all2all=moonep",
    "vllm:tp=1,ep=3,pp=2",
    "vllm:tp=2,ep=4,redundant=4",
    "vllm:tp=4,ep=4,placement=round_robin",
    "vllm:tp=2,ep=4,placement=round_robin,all2all=nixl_ep",
    "fsdp:shard=3,tp=2,experts=each",
    "fsdp:shard=3,replicate=2,units=flat",
    "fsdp:shard=2,units=aligned,experts=each",
    "fsdp:shard=3,lora=4",
    "megatron:tp=2,dp=2,ep=2,experts=local",
    "megatron:tp=2,lora=4",
    "vllm:tp=2,pp=2,layers=4-1",
    "vllm:tp=4,lora=4",
    "sglang:tp=4,ep=2,replicas=2",
    "sglang:tp=2,pp=3",
    "sglang:tp=4,attention_dp=2,all2all=deepep,redundant=4",
};

const std::vector<std::string> kLargeTexts = {
    "fsdp:shard=256,replicate=8",
    "checkpoint:split=7",
    "megatron:tp=4,pp=8,dp=8",
    "megatron:tp=8,pp=4,dp=64,ep=64",
    "megatron:tp=8,pp=16,dp=16,ep=16,etp=8,experts=gmm",
    "megatron:tp=2,dp=8,ep=8,etp=2",
    "vllm:tp=8,pp=3,replicas=4",
    "vllm:tp=32,replicas=8",
    "vllm:tp=8,ep=32,replicas=64",
    "vllm:tp=2,ep=64,redundant=64",
};

/// Prints the data file anew, for a version that means to change layouts: model_test
/// --gtest_also_run_disabled_tests --gtest_filter='*DISABLED_PrintDigests'
TEST(LayoutDigestTest, DISABLED_PrintDigests) {
  const auto print = [](const std::string& model, const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
      const std::string digest = digest_of(model, text);
      if (!digest.empty()) fmt::print("{} {} {}\n", digest, model, text);
    }
  };
  for (const auto& [name, config] : small_models()) print(name, kTexts);
  for (const char* family : {"deepseek_v32", "gpt_oss", "llama4_text", "minimax_m2", "hunyuan_v1_moe", "ernie4_5_moe",
                             "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "kimi_linear"}) {
    print(std::string("record:") + family, kTexts);
  }
  for (const char* name : {"Meta-Llama-3.1-8B", "Meta-Llama-3.1-405B", "Qwen3-0.6B", "Qwen3-32B", "Qwen3-30B-A3B",
                           "Qwen3-235B-A22B", "Mixtral-8x7B-v0.1", "DeepSeek-V3", "Kimi-K2-Instruct"}) {
    print(name, kLargeTexts);
  }
}

}  // namespace
}  // namespace reshard
