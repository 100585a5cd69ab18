// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "src/layout/layout.h"

namespace reshard {

/// What one element of a buffer is: an element of a tensor; kZero (zero-filled) or kNothing where no block reaches.
struct Element {
  std::string tensor;
  std::vector<std::int64_t> index;
  bool operator==(const Element&) const = default;
};

inline const Element kZero{"zero", {}};
inline const Element kNothing{"nothing", {}};
std::ostream& operator<<(std::ostream& out, const Element& element);

/// The buffers of one rank element by element, by name. `defect` tells the first element that two blocks reach, or
/// none (but in buffers of explicit blocks, which may have gaps), or that lies outside its buffer.
struct Memory {
  std::map<std::string, std::vector<Element>> buffers;
  std::string defect;
};
Memory memory_of(const ModelLayout& layout, std::int32_t rank);

/// Expects the buffer to be a dense row-major array of `shape` whose elements are what `expected` says of their
/// indices.
using Index = std::vector<std::int64_t>;
void expect_buffer(const Memory& memory, const std::string& name, const Index& shape,
                   const std::function<Element(const Index&)>& expected);

/// Column 0 of each row of a 2-D buffer of `width` columns as short text: "q3" for row 3 of a tensor ending in ".q_proj
/// .weight", "0" for padding.
std::vector<std::string> rows_of(const Memory& memory, const std::string& name, std::int64_t width);

/// Puts a layout's text on the record of the test that runs, for the table of what is tested (tests/lint/rows.py).
void record_text(const std::string& text);

/// The layout, which must be one; a failed expectation and an empty layout otherwise. Its text is recorded.
ModelLayout layout_of(const nlohmann::json& config, const std::string& text);

/// The message of the error that this must give; a failed expectation otherwise.
std::string error_of(const nlohmann::json& config, const std::string& text);

/// Small configs, their hidden_size 2 unless changed, so that every element is cheap to look at.
inline constexpr std::int64_t kTinyHidden = 2;
nlohmann::json tiny_llama();
nlohmann::json tiny_qwen3_moe();
nlohmann::json tiny_mixtral();
nlohmann::json tiny_deepseek();

/// How many elements the model's parameters have.
std::int64_t num_parameters(const nlohmann::json& config);

/// The config with other values, or more of them.
nlohmann::json changed(nlohmann::json config, const nlohmann::json& changes);

/// The text of a file of perf/models.
std::string published_config(const std::string& name);

/// "model.layers.N.suffix"
std::string in_layer(std::int64_t layer, const std::string& suffix);

}  // namespace reshard
