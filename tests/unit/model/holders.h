// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "memory.h"

namespace reshard {

using Ranks = std::vector<std::int64_t>;

/// The ranks of a layout that hold an element, ascending.
class Holders {
 public:
  Holders(const nlohmann::json& config, const std::string& text) : layout_(layout_of(config, text)) {
    for (std::int32_t rank = 0; rank < layout_.num_ranks(); ++rank) {
      memories_.push_back(memory_of(layout_, rank));
      EXPECT_EQ(memories_.back().defect, "") << text << ", rank " << rank;
      for (const auto& [name, elements] : memories_.back().buffers) {
        for (const Element& element : elements) {
          Ranks& ranks = ranks_[key(element)];
          if (ranks.empty() || ranks.back() != rank) ranks.push_back(rank);
        }
      }
    }
  }

  const Ranks& of(const Element& element) const {
    static const Ranks none;
    const auto found = ranks_.find(key(element));
    return found == ranks_.end() ? none : found->second;
  }
  const Ranks& of(const std::string& tensor, const Index& index) const { return of(Element{tensor, index}); }

  const ModelLayout& layout() const { return layout_; }
  const Memory& memory(std::int64_t rank) const { return memories_[static_cast<std::size_t>(rank)]; }
  std::vector<std::string> rows(std::int64_t rank, const std::string& buffer) const {
    return rows_of(memory(rank), buffer, 2);
  }

 private:
  static std::string key(const Element& element) {
    std::ostringstream text;
    text << element;
    return text.str();
  }

  ModelLayout layout_;
  std::vector<Memory> memories_;
  std::map<std::string, Ranks> ranks_;
};

}  // namespace reshard
