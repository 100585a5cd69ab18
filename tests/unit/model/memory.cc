// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "memory.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <numeric>
#include <set>
#include <sstream>

#include "src/model/families.h"
#include "src/model/model.h"

namespace reshard {
namespace {

using Json = nlohmann::json;

/// Calls `visit` for every index of the box [begin, end), row-major.
void for_each_index(const Index& begin, const Index& end, const std::function<void(const Index&)>& visit) {
  for (std::size_t d = 0; d < begin.size(); ++d) {
    if (begin[d] >= end[d]) return;
  }
  Index index = begin;
  while (true) {
    visit(index);
    std::size_t d = index.size();
    while (d > 0 && ++index[d - 1] == end[d - 1]) {
      index[d - 1] = begin[d - 1];
      --d;
    }
    if (d == 0) return;
  }
}

void paint(const ModelLayout& layout, const Block& block, Memory* memory) {
  const Tensor& tensor = layout.tensors()[static_cast<std::size_t>(block.tensor)];
  const std::string& name = layout.buffers()[static_cast<std::size_t>(block.buffer)].name;
  std::vector<Element>& elements = memory->buffers[name];
  const int num_dims = block.box.num_dims;
  Index begin, end;
  for (int d = 0; d < num_dims; ++d) {
    begin.push_back(block.box.begin[d]);
    end.push_back(block.box.end[d]);
  }
  for_each_index(begin, end, [&](const Index& index) {
    std::int64_t offset = block.offset_bytes;
    for (int d = 0; d < num_dims; ++d) {
      offset += (index[static_cast<std::size_t>(d)] - block.box.begin[d]) * block.strides_bytes[d];
    }
    const auto at = static_cast<std::size_t>(offset / size_bytes(tensor.dtype));
    const Element element = block.kind == BlockKind::kData ? Element{tensor.name, index} : kZero;
    if (offset % size_bytes(tensor.dtype) != 0 || at >= elements.size()) {
      memory->defect = fmt::format("{} reaches byte {} of {}", tensor.name, offset, name);
    } else if (!(elements[at] == kNothing)) {
      memory->defect = fmt::format("{} and {} share element {} of {}", tensor.name, elements[at].tensor, at, name);
    } else {
      elements[at] = element;
    }
  });
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Element& element) {
  return out << fmt::format("{}[{}]", element.tensor, fmt::join(element.index, ", "));
}

Memory memory_of(const ModelLayout& layout, std::int32_t rank) {
  Memory memory;
  std::map<std::int64_t, DType> explicit_dtypes;  // of buffers that have none of their own: that of what lies in them
  std::set<std::string> may_have_gaps;
  for (std::size_t t = 0; t < layout.tensors().size(); ++t) {
    for (const RankBlock& given : layout.rank_blocks(static_cast<std::int64_t>(t))) {
      explicit_dtypes[given.block.buffer] = layout.tensors()[t].dtype;
    }
  }
  for (const std::int64_t buffer : layout.buffers_of(rank)) {
    const Buffer& info = layout.buffers()[static_cast<std::size_t>(buffer)];
    const DType dtype = info.rank >= 0 ? explicit_dtypes.at(buffer) : info.dtype;
    if (info.rank >= 0) may_have_gaps.insert(info.name);
    const auto num_elements = layout.buffer_size_bytes(rank, buffer) / size_bytes(dtype);
    if (!memory.buffers.try_emplace(info.name, static_cast<std::size_t>(num_elements), kNothing).second) {
      memory.defect = "two buffers are called " + info.name;
    }
  }
  const auto num_tensors = static_cast<std::int64_t>(layout.tensors().size());
  for (std::int64_t tensor = 0; tensor < num_tensors; ++tensor) {
    for (const Block& block : layout.blocks(rank, tensor)) paint(layout, block, &memory);
  }
  for (const auto& [name, elements] : memory.buffers) {
    for (std::size_t i = 0; i < elements.size(); ++i) {
      if (elements[i] == kNothing && may_have_gaps.count(name) == 0)
        memory.defect = fmt::format("nothing reaches element {} of {}", i, name);
    }
  }
  return memory;
}

void expect_buffer(const Memory& memory, const std::string& name, const Index& shape,
                   const std::function<Element(const Index&)>& expected) {
  const auto found = memory.buffers.find(name);
  ASSERT_NE(found, memory.buffers.end()) << name;
  std::size_t at = 0;
  for_each_index(Index(shape.size(), 0), shape, [&](const Index& index) {
    ASSERT_LT(at, found->second.size()) << name;
    EXPECT_EQ(found->second[at], expected(index)) << name << " at " << fmt::format("{}", fmt::join(index, ", "));
    ++at;
  });
  EXPECT_EQ(at, found->second.size()) << name;
}

std::vector<std::string> rows_of(const Memory& memory, const std::string& name, std::int64_t width) {
  std::vector<std::string> rows;
  const auto found = memory.buffers.find(name);
  if (found == memory.buffers.end()) return {"no buffer " + name};
  for (std::size_t at = 0; at < found->second.size(); at += static_cast<std::size_t>(width)) {
    const Element& element = found->second[at];
    const std::size_t proj = element.tensor.find("_proj");
    const std::size_t begin = element.tensor.rfind('.', proj) + 1;
    if (element.index.empty()) {
      rows.push_back(element == kZero ? "0" : element.tensor);
    } else if (proj == std::string::npos) {
      rows.push_back(fmt::format("{}", element.index[0]));
    } else {
      rows.push_back(element.tensor.substr(begin, 1) + std::to_string(element.index[0]));
    }
  }
  return rows;
}

void record_text(const std::string& text) {
  static const testing::TestInfo* test = nullptr;
  static std::string texts;  // of the test so far
  const testing::TestInfo* current = testing::UnitTest::GetInstance()->current_test_info();
  if (current == nullptr) return;
  if (test != current) texts.clear();
  test = current;
  if ((" " + texts + " ").find(" " + text + " ") != std::string::npos) return;
  texts += (texts.empty() ? "" : " ") + text;
  testing::Test::RecordProperty("texts", texts);
}

ModelLayout layout_of(const Json& config, const std::string& text) {
  record_text(text);
  Result<ModelLayout> layout = make_model_layout(config.dump(), text);
  EXPECT_TRUE(layout.ok()) << text << ": " << layout.status().message();
  return layout.ok() ? layout.take() : ModelLayout(1);
}

std::string error_of(const Json& config, const std::string& text) {
  const Result<ModelLayout> layout = make_model_layout(config.dump(), text);
  EXPECT_FALSE(layout.ok()) << text;
  return layout.status().message();
}

Json tiny_llama() {
  return {{"model_type", "llama"},        {"num_hidden_layers", 2},   {"hidden_size", 2}, {"vocab_size", 10},
          {"num_attention_heads", 8},     {"num_key_value_heads", 4}, {"head_dim", 1},    {"intermediate_size", 8},
          {"tie_word_embeddings", false}, {"torch_dtype", "bfloat16"}};
}

Json tiny_qwen3_moe() {
  Json config = tiny_llama();
  config.update({{"model_type", "qwen3_moe"}, {"num_experts", 4}, {"moe_intermediate_size", 8}});
  return config;
}

Json tiny_mixtral() {
  Json config = tiny_llama();
  config.update({{"model_type", "mixtral"}, {"num_local_experts", 4}});
  return config;
}

Json tiny_deepseek() {
  return {{"model_type", "deepseek_v3"},
          {"num_hidden_layers", 3},
          {"hidden_size", 2},
          {"vocab_size", 10},
          {"num_attention_heads", 4},
          {"intermediate_size", 8},
          {"q_lora_rank", 3},
          {"kv_lora_rank", 2},
          {"qk_nope_head_dim", 2},
          {"qk_rope_head_dim", 1},
          {"v_head_dim", 2},
          {"n_routed_experts", 8},
          {"n_shared_experts", 1},
          {"moe_intermediate_size", 4},
          {"first_k_dense_replace", 1},
          {"topk_method", "noaux_tc"},
          {"torch_dtype", "bfloat16"}};
}

std::string published_config(const std::string& name) {
  const std::string path = std::string(RESHARD_SOURCE_DIR) + "/perf/models/" + name + ".json";
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  EXPECT_TRUE(file.good()) << path;
  return text.str();
}

std::int64_t num_parameters(const nlohmann::json& config) {
  const Result<Model> model = read_model(config.dump());
  EXPECT_TRUE(model.ok()) << model.status().message();
  if (!model.ok()) return 0;
  std::int64_t total = 0;
  for (const Param& param : model->params) {
    const std::vector<std::int64_t> shape = shape_of(param);
    total += std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
  }
  return total;
}

nlohmann::json changed(nlohmann::json config, const nlohmann::json& changes) {
  config.update(changes);
  return config;
}

std::string in_layer(std::int64_t layer, const std::string& suffix) {
  return fmt::format("model.layers.{}.{}", layer, suffix);
}

}  // namespace reshard
