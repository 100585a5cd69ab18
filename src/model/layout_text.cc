// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Reads "vllm:tp=2,dp=4". Only what holds for every kind is checked here: that the kind and its keys are known, that
// each key stands once, with a value of the right form. Which values go together is for the scheme to say that the kind
// names (megatron.cc, vllm_settings.cc, ...). Every message begins with the whole text: a person who wrote two of them,
// for the source and for the destination, must see which one is meant.
#include "src/model/layout_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "src/layout/layout.h"

namespace reshard {
namespace {

// A framework, and every key that its texts may have: a key that is misspelt is then an error, not a default.
struct KeysOfKind {
  std::string_view name;
  std::vector<std::string_view> keys;
};

/// Keys that all kinds have, behind their own.
constexpr std::array<std::string_view, 4> kCommonKeys = {"lora", "lora_targets", "dtype", "quant"};

const std::vector<KeysOfKind>& kinds() {
  static const std::vector<KeysOfKind> kinds = [] {
    std::vector<KeysOfKind> all = {
        {"fsdp", {"shard", "replicate", "tp", "outer", "dim", "experts", "units", "mtp"}},
        {"megatron",
         {"tp", "pp", "dp", "ep", "etp", "layers", "experts", "cp", "vpp", "first", "last", "noop", "names",
          "vocab_multiple", "glu_interleave", "mla_down", "mla_up",
          // Of the stacks beside the decoder.
          "vision_layers", "mtp", "mtp_layers"}},
        {"vllm",
         {"tp", "pp", "dp", "ep", "replicas", "redundant", "eplb", "placement", "all2all", "layers",
          "mm_encoder_tp_mode", "mtp"}},
        {"sglang",
         {"tp", "pp", "replicas", "attention_dp", "ep", "dense", "output", "all2all", "redundant", "eplb", "layers"}},
        {"checkpoint", {"ranks", "split", "mtp"}},
    };
    for (KeysOfKind& kind : all) kind.keys.insert(kind.keys.end(), kCommonKeys.begin(), kCommonKeys.end());
    return all;
  }();
  return kinds;
}

Status unknown_kind(const std::string& name, const std::string& text) {
  std::vector<std::string_view> names;
  for (const KeysOfKind& kind : kinds()) names.push_back(kind.name);
  return invalid_argument(
      fmt::format("\"{}\": unknown layout \"{}\"; the known ones are {}", text, name, fmt::join(names, ", ")));
}

}  // namespace

Result<LayoutText> LayoutText::parse(const std::string& text) {
  LayoutText result;
  result.text_ = text;
  const std::size_t colon = text.find(':');
  result.kind_ = text.substr(0, colon);
  const auto kind = std::find_if(kinds().begin(), kinds().end(),
                                 [&](const KeysOfKind& candidate) { return candidate.name == result.kind_; });
  if (kind == kinds().end()) return unknown_kind(result.kind_, text);
  if (colon == std::string::npos) return result;
  // `begin` may stand at the end of the text: behind ':' or ',' a setting has to follow, which no_setting() says.
  for (std::size_t begin = colon + 1, end = 0; begin <= text.size(); begin = end + 1) {
    end = std::min(text.find(',', begin), text.size());
    if (begin == end) return result.no_setting(end);
    RESHARD_TRY(result.add_setting(text.substr(begin, end - begin), kind->keys));
  }
  return result;
}

/// What a text says where a setting should be and nothing is; `end` is where the setting would end.
Status LayoutText::no_setting(std::size_t end) const {
  if (end != text_.size()) return error("two separators with nothing between them; write KEY=VALUE,KEY=VALUE");
  if (text_.back() == ',') return error("ends with a comma; leave it out, or write KEY=VALUE behind it");
  return error(fmt::format("ends with ':'; write {}:KEY=VALUE, or {} alone", kind_, kind_));
}

Status LayoutText::add_setting(const std::string& item, const std::vector<std::string_view>& known) {
  const std::size_t equals = item.find('=');
  const std::string key = item.substr(0, equals);
  if (key.empty()) return error(fmt::format("no key before \"{}\"; write KEY=VALUE", item));
  if (key.find(' ') != std::string::npos) {
    return error(fmt::format("unknown key \"{}\"; settings have no spaces around them", key));
  }
  if (std::find(known.begin(), known.end(), key) == known.end()) {
    return error(fmt::format("unknown key \"{}\"; the keys of {} are {}", key, kind_, fmt::join(known, ", ")));
  }
  if (equals == std::string::npos || equals + 1 == item.size()) {
    return error(fmt::format("{} has no value; write {}=VALUE", key, key));
  }
  if (!values_.emplace(key, item.substr(equals + 1)).second) return error(fmt::format("{} is given twice", key));
  return {};
}

const std::string* LayoutText::find(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

Result<std::int32_t> LayoutText::integer(std::string_view key, std::int32_t fallback, std::int32_t min) const {
  const std::string* text = find(key);
  if (text == nullptr) return fallback;
  std::int32_t value = 0;
  const char* end = text->data() + text->size();
  const auto [stop, errc] = std::from_chars(text->data(), end, value);
  if (errc != std::errc{} || stop != end || value < min || value > kMaxRanks) {
    return error(fmt::format("{} is \"{}\", expected an integer from {} to {}", key, *text, min, kMaxRanks));
  }
  return value;
}

Result<std::string> LayoutText::word(std::string_view key, std::initializer_list<std::string_view> words) const {
  const std::string* text = find(key);
  if (text == nullptr) return std::string(*words.begin());  // the first word is the default
  if (std::find(words.begin(), words.end(), *text) != words.end()) return *text;
  return error(fmt::format("{} is \"{}\", expected one of {}", key, *text, fmt::join(words, ", ")));
}

Result<std::vector<std::int64_t>> LayoutText::list(std::string_view key, std::string_view what) const {
  std::vector<std::int64_t> values;
  const std::string* value = find(key);
  if (value == nullptr) return values;
  constexpr std::int64_t kTooMany = 1'000'000;
  std::int64_t count = -1;  // -1: no digit since the last dash
  for (const char c : *value + "-") {
    const bool is_digit = c >= '0' && c <= '9';
    if (is_digit && count < kTooMany) {
      count = std::max<std::int64_t>(count, 0) * 10 + (c - '0');
    } else if (c == '-' && count >= 0) {
      values.push_back(count);
      count = -1;
    } else {
      return error(fmt::format("{} is \"{}\", expected {}", key, *value, what));
    }
  }
  return values;
}

Result<std::vector<std::int64_t>> LayoutText::layers_of_stages(std::int32_t num_stages, std::string_view key) const {
  RESHARD_TRY(std::vector<std::int64_t> layers, list(key, "layers per stage such as 7-7-8"));
  if (!layers.empty() && layers.size() != static_cast<std::size_t>(num_stages)) {
    return error(fmt::format("{} names {} stages, but pp = {}", key, layers.size(), num_stages));
  }
  return layers;
}

Status LayoutText::error(const std::string& message) const {
  return invalid_argument(fmt::format("\"{}\": {}", text_, message));
}

Status LayoutText::check_divides(std::string_view size_name, std::int64_t size, std::string_view count_name,
                                 std::int64_t count) const {
  if (count % size == 0) return {};
  return error(fmt::format("{} = {} does not divide {} = {}", size_name, size, count_name, count));
}

Result<std::int32_t> LayoutText::num_ranks(std::initializer_list<std::int32_t> sizes) const {
  std::int64_t product = 1;
  for (const std::int32_t size : sizes) {
    product *= size;  // both factors are at most kMaxRanks
    if (product > kMaxRanks) return error(fmt::format("needs more than {} ranks", kMaxRanks));
  }
  return static_cast<std::int32_t>(product);
}

}  // namespace reshard
